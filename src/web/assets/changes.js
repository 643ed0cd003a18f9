// Verdict changes as rows of a table.

import { el } from "./dom.js";
import { badge } from "./verdict.js";
import { duration, exactTime, time, why } from "./format.js";

const moment = (text) => el("time", { datetime: text, title: exactTime(Date.parse(text)) }, time(Date.parse(text)));

export const WHEN = { name: "When", kind: "when", cell: (change) => moment(change.at) };
export const WHO = { name: "Publisher", kind: "who", cell: (change) => el("a", { href: `#/publisher/${encodeURIComponent(change.publisher)}` }, change.publisher) };
export const WHAT = { name: "Change", kind: "what", cell: (change) => el("span", { class: "change" }, el("span", { class: "from" }, change.from), el("span", { "aria-label": "to" }, "→"), badge(change.to)) };
export const WHY = { name: "Why", kind: "why", cell: (change) => why(change.summary) };
export const KNOWN = {
  name: "Known after", kind: "number", cell: (change) => {
    const late = Date.parse(change.decided_at) - Date.parse(change.at);
    return late < 1 ? "at once" : duration(late);
  },
};
