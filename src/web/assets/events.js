// Every verdict change, newest first.

import { KNOWN, WHAT, WHEN, WHO, WHY } from "./changes.js";
import { el } from "./dom.js";
import { get } from "./session.js";
import { on } from "./store.js";
import { table } from "./table.js";
import { VERDICTS } from "./verdict.js";

const PAGE = 100;
const SHOWN_MAX = 2000;

export function events(main, given) {
  const publisher = el("input", { id: "publisher", type: "search", placeholder: "Publisher’s id, whole", "aria-label": "Publisher", value: given.get("publisher") ?? "" });
  const verdict = el("select", { id: "to", "aria-label": "Changed to" }, el("option", { value: "" }, "Changed to any verdict"),
    el("option", { value: "dead,never-started,unreachable,hung,stopped,silent" }, "Only trouble"), VERDICTS.map((name) => el("option", { value: name }, `Changed to ${name}`)));
  verdict.value = given.get("to") ?? "";
  const wrong = el("p", { class: "wrong", role: "alert" });
  const list = table("Verdict changes, newest first", [WHEN, WHO, WHAT, WHY, KNOWN], "No verdict has changed like that.");
  const older = el("button", { type: "button", hidden: true }, "Show older changes");
  main.append(el("h1", {}, "Events"), el("div", { class: "tools", role: "search" }, publisher, verdict, el("span", { class: "shown" }, "new ones appear by themselves")),
    wrong, list.element, older);

  let oldest = null;
  let newest = 0;
  let asked = 0;
  const query = (before) => {
    const ask = new URLSearchParams({ newest: "true", limit: PAGE });
    if (publisher.value.trim()) ask.set("publisher", publisher.value.trim());
    if (verdict.value) ask.set("to", verdict.value);
    if (before) ask.set("before", before);
    return `api/events?${ask}`;
  };
  async function load(before) {
    const ours = (asked += 1);
    try {
      const changes = await get(query(before));
      if (ours !== asked) return;
      wrong.textContent = "";
      if (before) list.append(changes);
      else list.set(changes);
      oldest = changes.at(-1)?.epoch ?? oldest;
      if (!before) newest = changes[0]?.epoch ?? 0;
      older.hidden = changes.length < PAGE;
    } catch (error) {
      wrong.textContent = error.message;
    }
  }
  const filtered = () => {
    const kept = new URLSearchParams();
    if (publisher.value.trim()) kept.set("publisher", publisher.value.trim());
    if (verdict.value) kept.set("to", verdict.value);
    history.replaceState(null, "", `#/events${kept.size ? `?${kept}` : ""}`);
    load();
  };
  let typing;
  publisher.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filtered, 250); });
  verdict.addEventListener("change", filtered);
  older.addEventListener("click", () => load(oldest));
  const stops = [
    on("change", (change) => {
      if (change.epoch <= newest) return;
      newest = change.epoch;
      const fits = (!publisher.value.trim() || publisher.value.trim() === change.publisher)
        && (!verdict.value || verdict.value.split(",").includes(change.to));
      if (fits) list.prepend(change, SHOWN_MAX);
    }),
    on("connection", (state) => { if (state === "live") load(); }),
  ];
  load();
  return () => { stops.forEach((stop) => stop()); clearTimeout(typing); };
}
