// The last hour of everybody: how many had which verdict, minute by minute.

import { el } from "./dom.js";
import { colour, plot } from "./plot.js";
import { now, store } from "./store.js";
import { hours, time } from "./format.js";
import { group, VERDICTS } from "./verdict.js";

const HOUR = 3600000;
const STEP = 60000;
const GROUPS = [
  ["gone", "dead, never started"], ["odd", "hung, stopped, unreachable"], ["quiet", "late, silent"], ["none", "unknown"], ["left", "ended"], ["well", "alive"],
];

/** How many publishers of each group stood at the end of each step. */
export function counted(publishers, timeline, from, steps, step) {
  const counts = Object.fromEntries(GROUPS.map(([name]) => [name, new Array(steps).fill(0)]));
  const by = new Map();
  for (const change of timeline) {
    if (change[2] < from) continue;
    if (!by.has(change[1])) by.set(change[1], []);
    by.get(change[1]).push(change);
  }
  for (const publisher of publishers) {
    const changes = by.get(publisher.id) ?? [];
    let at = 0;
    let verdict = changes.length ? changes[0][3] : publisher.verdict;
    // it is not counted before its first verdict
    const first = !changes.length ? publisher.sinceMs : verdict === "unknown" ? changes[0][2] : -Infinity;
    for (let index = 0; index < steps; index += 1) {
      const end = from + (index + 1) * step;
      // the worst of a step is what is shown of it
      let worst = verdict;
      while (at < changes.length && changes[at][2] < end) {
        verdict = changes[at][4];
        if (worst === "unknown" || VERDICTS.indexOf(verdict) < VERDICTS.indexOf(worst)) worst = verdict;
        at += 1;
      }
      if (first < end) counts[group(worst)][index] += 1;
    }
  }
  return counts;
}

export function hourChart() {
  const canvas = el("canvas", { role: "img", "aria-label": "Verdicts of all publishers over the last hour" });
  const element = el("section", { class: "hour-chart", "aria-label": "The last hour" },
    el("h2", {}, "Last hour", el("span", { class: "sub" }, " verdicts of all publishers, minute by minute")), el("div", { class: "canvas" }, canvas));
  let chart = null;
  let left = false;
  const data = () => {
    const steps = HOUR / STEP;
    const from = Math.ceil(now() / STEP) * STEP - HOUR;
    const counts = counted(store.publishers.values(), store.timeline, from, steps, STEP);
    const labels = Array.from({ length: steps }, (_, index) => from + index * STEP);
    return { labels, datasets: GROUPS.map(([name, words]) => ({ label: words, data: counts[name], group: name })) };
  };
  const paint = (of) => of.datasets.forEach((set) => { set.backgroundColor = colour(set.group); });
  const options = {
    scales: {
      x: { stacked: true, grid: { display: false }, ticks: { autoSkip: false, maxRotation: 0, callback(_, index) { const at = this.getLabelForValue(index); return at % (this.width > 560 ? 600000 : 1200000) === 0 ? hours(at) : undefined; } } },
      y: { stacked: true, beginAtZero: true, ticks: { precision: 0, maxTicksLimit: 3 } },
    },
    interaction: { mode: "index", intersect: false },
    plugins: { tooltip: { filter: (item) => item.raw > 0, callbacks: { title: ([item]) => (item ? time(Number(item.label)) : "") } } },
    datasets: { bar: { categoryPercentage: 1, barPercentage: 0.9 } },
  };
  return {
    element,
    update() {
      if (left || !store.heard) return;
      const fresh = data();
      if (chart) {
        chart.update(fresh, paint);
      } else {
        chart = plot(canvas, { type: "bar", data: fresh, options }, paint);
      }
    },
    leave() {
      left = true;
      chart?.leave();
    },
  };
}
