// Chart.js, fetched when the first plot is drawn, in the page's own colours and type.

import { el } from "./dom.js";
import { hours, time } from "./format.js";

const SCRIPT = "assets/chart-4.5.1.js";
let library = null;
const plots = new Set();

function load() {
  library ??= new Promise((resolve, reject) => {
    const script = el("script", { src: SCRIPT });
    script.addEventListener("load", () => resolve(window.Chart));
    script.addEventListener("error", () => { library = null; script.remove(); reject(new Error("the charting library did not come")); });
    document.head.append(script);
  });
  return library;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const resolved = new Map();

/** A colour of the page by its name, as the canvas understands it. */
export function colour(name) {
  if (!resolved.has(name)) {
    const probe = el("span", { class: `ink-${name}` });
    document.body.append(probe);
    resolved.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return resolved.get(name);
}

export const faint = (name, part) => colour(name).replace(/^rgb\((.*)\)$/, `rgba($1, ${part})`);

function dress(chart) {
  const { options } = chart;
  options.color = colour("text");
  for (const scale of Object.values(options.scales ?? {})) {
    scale.ticks = { ...scale.ticks, color: colour("muted") };
    scale.grid = { ...scale.grid, color: colour("line") };
    scale.border = { color: colour("line") };
    if (scale.title) scale.title.color = colour("muted");
  }
  Object.assign(options.plugins.tooltip, {
    backgroundColor: colour("surface"), titleColor: colour("text"), bodyColor: colour("text"), borderColor: colour("line"), borderWidth: 1,
  });
}

export function refreshColours() {
  resolved.clear();
  for (const of of plots) of.repaint();
}

/** A plot on a canvas. `paint(data)` gives its data their colours, again after the theme has changed. */
export function plot(canvas, { type, data, options, plugins }, paint) {
  let chart = null;
  let left = false;
  const of = {
    update(fresh, again = paint) {
      paint = again;
      data = fresh;
      if (!chart) return;
      // the same lists in place, so that Chart.js keeps what it knows of them
      chart.data.labels = fresh.labels;
      fresh.datasets.forEach((set, index) => {
        if (chart.data.datasets[index]) Object.assign(chart.data.datasets[index], set);
        else chart.data.datasets[index] = set;
      });
      chart.data.datasets.length = fresh.datasets.length;
      paint(chart.data);
      chart.update();
    },
    repaint() {
      if (!chart) return;
      paint(chart.data);
      dress(chart);
      chart.update();
    },
    chart: () => chart,
    leave() {
      left = true;
      plots.delete(of);
      chart?.destroy();
    },
  };
  plots.add(of);
  load().then((Chart) => {
    if (left) return;
    Chart.defaults.font.family = css("--font");
    Chart.defaults.font.size = 12;
    paint(data);
    chart = new Chart(canvas, {
      type, data, plugins,
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, ...options,
        plugins: { legend: { display: false }, ...options.plugins, tooltip: { usePointStyle: true, boxPadding: 4, ...options.plugins?.tooltip } },
      },
    });
    dress(chart);
    chart.update();
  }).catch((error) => canvas.replaceWith(el("p", { class: "wrong" }, error.message)));
  return of;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map((seconds) => seconds * 1000);

/** An axis of time in the reader's zone. */
export function timeAxis(from, to) {
  return {
    type: "linear", min: from, max: to,
    afterBuildTicks(axis) {
      const range = axis.max - axis.min;
      const step = STEPS.find((known) => range / known <= Math.max(3, axis.width / 90)) ?? STEPS.at(-1);
      const offset = new Date(axis.min).getTimezoneOffset() * 60000;
      const first = Math.ceil((axis.min - offset) / step) * step + offset;
      axis.ticks = [];
      for (let at = first; at <= axis.max; at += step) axis.ticks.push({ value: at });
    },
    ticks: { autoSkip: false, maxRotation: 0, callback(at) { return this.max - this.min > 600000 ? hours(at) : time(at); } },
  };
}

/** Draws a frame around what the pointer selects, and tells the range in the axis' own numbers. */
export function selection(onSelect) {
  let start = null;
  let end = null;
  return {
    id: "selection",
    afterEvent(chart, { event }) {
      const { left, right } = chart.chartArea;
      const x = Math.min(Math.max(event.x, left), right);
      if (event.type === "mousedown") start = end = x;
      else if (event.type === "mousemove" && start !== null) { end = x; chart.draw(); }
      else if (event.type === "mouseup" && start !== null) {
        const [a, b] = [Math.min(start, x), Math.max(start, x)];
        start = end = null;
        chart.draw();
        if (b - a > 8) onSelect(chart.scales.x.getValueForPixel(a), chart.scales.x.getValueForPixel(b));
      }
    },
    afterDraw(chart) {
      if (start === null || start === end) return;
      const { ctx, chartArea: { top, bottom } } = chart;
      ctx.save();
      ctx.fillStyle = faint("accent", 0.18);
      ctx.fillRect(Math.min(start, end), top, Math.abs(end - start), bottom - top);
      ctx.restore();
    },
  };
}
