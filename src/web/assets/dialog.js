// A question before something is done, and what came of it.

import { el } from "./dom.js";
import { post } from "./session.js";

/**
 * Asks, does it, and shows the answer in words. `done` makes words of the answer. With `choice` (label, options)
 * one of several values is chosen as well, and `body` makes the request of it.
 */
export function confirmed({ title, words, button, path, choice, body, done }) {
  const chosen = choice && el("select", { id: "choice" }, choice.options.map(([value, text]) => el("option", { value }, text)));
  const outcome = el("p", { class: "outcome", role: "status" });
  const yes = el("button", { class: "primary", type: "button" }, button);
  const no = el("button", { type: "button" }, "Cancel");
  const dialog = el("dialog", { class: "card", "aria-labelledby": "dialog-title" },
    el("h2", { id: "dialog-title" }, title), el("p", {}, words), choice ? el("label", { for: "choice" }, `${choice.label} `, chosen) : null, outcome, el("div", { class: "buttons" }, no, yes));
  no.addEventListener("click", () => dialog.close());
  yes.addEventListener("click", async () => {
    yes.disabled = true;
    try {
      outcome.textContent = done(await post(path, body?.(chosen?.value)));
      outcome.classList.remove("wrong");
      yes.hidden = true;
      if (chosen) chosen.disabled = true;
      no.textContent = "Close";
      no.focus();
    } catch (error) {
      outcome.textContent = error.message;
      outcome.classList.add("wrong");
      yes.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
