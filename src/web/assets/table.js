// A plain table from a list, with its caption and what it says when it is empty.

import { el } from "./dom.js";

/** `columns`: name, class, and how an item becomes what stands in the cell. */
export function table(caption, columns, empty) {
  const body = el("tbody");
  const nothing = el("p", { class: "empty" }, empty);
  const frame = el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: "plain" }, el("caption", { class: "unseen" }, caption),
      el("thead", {}, el("tr", {}, columns.map(({ name, kind }) => el("th", { scope: "col", class: kind }, name)))), body));
  const row = (item) => el("tr", {}, columns.map(({ kind, cell }) => el("td", { class: kind }, cell(item))));
  const settle = () => {
    frame.hidden = body.children.length === 0;
    nothing.hidden = !frame.hidden;
  };
  settle();
  return {
    element: el("div", {}, frame, nothing),
    set(items) { body.replaceChildren(...items.map(row)); settle(); },
    prepend(item, most) { body.prepend(row(item)); while (body.children.length > most) body.lastChild.remove(); settle(); },
    append(items) { body.append(...items.map(row)); settle(); },
  };
}
