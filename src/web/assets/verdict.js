// What a verdict looks like: a word, a colour and a shape, never the colour alone.

import { el, svg } from "./dom.js";
import { exactTime, time } from "./format.js";

/** Worst first: the order of the page. */
const ORDER = ["dead", "never-started", "unreachable", "hung", "stopped", "conflict", "silent", "late", "unknown", "alive", "ended"];
const RANK = new Map(ORDER.map((name, rank) => [name, rank]));
const GROUP = {
  dead: "gone", "never-started": "gone", unreachable: "odd", hung: "odd", stopped: "odd", conflict: "odd", silent: "quiet", late: "quiet",
  unknown: "none", alive: "well", ended: "left", maintenance: "none", flapping: "quiet",
};
const MEANING = {
  alive: "heard within its interval", late: "past its interval, before its deadline", silent: "past its deadline; it runs, but nothing reaches us",
  hung: "past its deadline; it exists and makes no progress", stopped: "its process is stopped", unreachable: "its host can't be asked",
  dead: "its process is gone", "never-started": "expected, never heard", ended: "said goodbye and left in order", unknown: "the monitor doubts itself",
  conflict: "two speak under its id",
};
const SHAPES = {
  gone: ["M3 3l10 10M13 3L3 13"],
  odd: ["M8 1.8l6.4 11.6H1.6z", "M8 6.2v3.4", "M8 11.6v.2"],
  quiet: ["M8 1.6a6.4 6.4 0 1 0 0 12.8a6.4 6.4 0 1 0 0-12.8", "M8 4.6V8l2.4 1.6"],
  well: ["M2.6 8.6l3.4 3.6 7.4-8.4"],
  left: ["M2.5 8h9", "M8.4 4.4L12 8l-3.6 3.6"],
  none: ["M5.4 5.8a2.6 2.6 0 1 1 3.6 2.4c-.8.4-1 .9-1 1.7", "M8 12.6v.2"],
};

export const VERDICTS = ORDER;
export const rank = (verdict) => RANK.get(verdict) ?? RANK.get("unknown");
export const group = (verdict) => GROUP[verdict] ?? "none";
export const meaning = (verdict) => MEANING[verdict] ?? "";
export const isTrouble = (verdict) => !["alive", "ended", "late"].includes(verdict);

export function shape(verdict) {
  const paths = SHAPES[group(verdict)].map((d) => svg("path", { d }));
  return svg("svg", { viewBox: "0 0 16 16", width: 14, height: 14, class: "shape", "aria-hidden": "true" }, paths);
}

export function badge(verdict) {
  const element = el("span", {});
  setBadge(element, verdict);
  return element;
}

/** Changes a badge where the verdict differs. */
export function setBadge(element, verdict) {
  if (element.dataset.verdict === verdict) return;
  element.dataset.verdict = verdict;
  element.className = `badge ${group(verdict)}`;
  element.title = meaning(verdict);
  element.replaceChildren(shape(verdict), el("span", {}, verdict));
}

/** What a person should know beside the verdict: a maintenance window, flapping. */
export function notes({ maintenance, flapping }) {
  const note = (kind, words, title) => el("span", { class: `badge ${group(kind)}`, "data-note": kind, title }, shape(kind), el("span", {}, words));
  const until = maintenance && Date.parse(maintenance.until);
  return [
    maintenance && note("maintenance", `maintenance until ${time(until)}`, `Nobody is told until ${exactTime(until)}${maintenance.reason ? `: ${maintenance.reason}` : ""}`),
    flapping && note("flapping", "flapping", "It changes too often: that was told once, and its changes are not told until it settles"),
  ].filter(Boolean);
}
