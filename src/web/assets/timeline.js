// The verdicts of one publisher over a time, as a strip of coloured pieces.

import { svg } from "./dom.js";
import { group } from "./verdict.js";

/** The pieces from `from` to `to`: changes are [epoch, publisher, at, from, to], oldest first. */
export function pieces(changes, verdict, since, from, to) {
  const list = [];
  let start = from;
  // nothing is known of it before its first verdict
  const first = changes[0]?.[3];
  let current = changes.length ? (first === "unknown" ? null : first) : verdict;
  const unknownUntil = changes.length ? from : Math.min(Math.max(since, from), to);
  if (!changes.length && unknownUntil > from) {
    list.push({ from, to: unknownUntil, verdict: null });
    start = unknownUntil;
  }
  for (const [, , at, , next] of changes) {
    const end = Math.min(Math.max(at, start), to);
    if (end > start) list.push({ from: start, to: end, verdict: current });
    start = Math.max(start, end);
    current = next;
  }
  if (to > start) list.push({ from: start, to, verdict: current });
  return list;
}

export function strip(label) {
  return svg("svg", { class: "strip", viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img", "aria-label": label });
}

export function drawStrip(element, list, from, to) {
  const key = list.map((piece) => `${piece.verdict}${Math.round(((piece.to - from) / (to - from)) * 500)}`).join();
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const x = (time) => ((time - from) / (to - from)) * 1000;
  element.replaceChildren(...list.map((piece) => svg("rect", {
    class: piece.verdict ? `piece ${group(piece.verdict)}` : "piece before",
    x: x(piece.from), y: 0, height: 10,
    // a short trouble is seen, too
    width: Math.max(x(piece.to) - x(piece.from), piece.verdict && group(piece.verdict) !== "well" ? 6 : 0),
  })));
}

export function spark(element, line) {
  const key = line.length ? `${line.length}:${line.at(-1)}` : "";
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  if (line.length < 2) {
    element.replaceChildren();
    return;
  }
  const values = line.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [line[0][0], line.at(-1)[0]];
  const x = (time) => (last > first ? ((time - first) / (last - first)) * 98 + 1 : 50);
  const y = (value) => (high > low ? 21 - ((value - low) / (high - low)) * 18 : 12);
  const points = line.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  element.replaceChildren(svg("polyline", { points }));
}
