// The readings of a publisher over time, and its arrivals against the deadline: live, or back in time.

import { el, setClass, setText } from "./dom.js";
import { colour, faint, plot, selection, timeAxis } from "./plot.js";
import { get } from "./session.js";
import { now, store } from "./store.js";
import { count, duration, time, value } from "./format.js";

const RANGES = [["5 min", 300000], ["15 min", 900000], ["1 h", 3600000], ["6 h", 21600000], ["24 h", 86400000], ["7 d", 604800000]];
const POINTS = 400;
const FIELDS_SHOWN_FIRST = 3;
const LINES = ["line-1", "line-2", "line-3", "line-4"];

export function readings(id, given) {
  let range = Number(given.get("range")) || 300000;
  let end = Number(given.get("to")) || null; // null: live
  let deadline = null;
  let left = false;
  let asked = 0;
  const chosen = new Map();
  const plots = new Map();

  const wrong = el("p", { class: "wrong", role: "alert" });
  const note = el("p", { class: "sub" });
  const fits = el("p", { class: "fits", role: "status" });
  const fieldList = el("div", { class: "fields", role: "group", "aria-label": "Fields" });
  const fieldPlots = el("div", { class: "plots" });
  const silence = el("canvas", { role: "img", "aria-label": "Silences between arrivals against the deadline" });
  const button = (words, label, act) => el("button", { type: "button", "aria-label": label, title: label, onclick: act }, words);
  const ranges = RANGES.map(([name, ms]) => button(name, `Show ${name}`, () => move(ms, end)));
  const liveButton = button("Live", "Follow the present", () => move(range, null));
  const bar = el("div", { class: "tools", role: "toolbar", "aria-label": "Range of time" },
    el("span", { class: "segments" }, ranges),
    el("span", { class: "segments" },
      button("◀", "Earlier", () => move(range, (end ?? now()) - range / 2)),
      button("▶", "Later", () => { const to = (end ?? now()) + range / 2; move(range, to >= now() ? null : to); }),
      button("+", "Zoom in", () => move(Math.max(10000, range / 2), end === null ? null : end - range / 4)),
      button("−", "Zoom out", () => move(Math.min(604800000, range * 2), end === null ? null : Math.min(now(), end + range / 2)))),
    liveButton, note);
  const element = el("section", { class: "readings", "aria-label": "Readings" },
    el("h2", {}, "Readings"), bar, wrong, fieldList, fieldPlots,
    el("h2", {}, "Arrivals against the deadline"), fits, el("div", { class: "canvas tall" }, silence));

  function move(ms, to) {
    range = ms;
    end = to;
    refresh();
  }
  function buttons() {
    ranges.forEach((of, index) => of.setAttribute("aria-pressed", String(RANGES[index][1] === range)));
    liveButton.setAttribute("aria-pressed", String(end === null));
  }
  const zoom = selection((from, to) => move(Math.max(10000, to - from), to));
  const base = (from, to, unit) => ({
    events: ["mousemove", "mouseout", "click", "touchstart", "touchmove", "mousedown", "mouseup"],
    parsing: false, normalized: true, spanGaps: false,
    interaction: { mode: "nearest", axis: "x", intersect: false },
    scales: { x: timeAxis(from, to), y: { ticks: { maxTicksLimit: 5, callback: unit } } },
    plugins: { tooltip: { filter: (item) => !item.dataset.band, callbacks: { title: ([item]) => (item ? time(item.parsed.x) : ""), label: (item) => `${item.dataset.label}: ${unit(item.parsed.y)}` } } },
  });
  const at = (reply, index) => reply.from_ms + (index + 0.5) * reply.step_ms;
  const points = (reply, list) => {
    const out = [];
    list.forEach((y, index) => { if (y !== null) out.push({ x: at(reply, index), y }); });
    return out;
  };
  /** A hole in the data is a hole in the line: longer than four of its usual steps. */
  const holes = (of) => {
    if (of.length < 3) return of;
    const gaps = of.slice(1).map((point, index) => point.x - of[index].x).sort((a, b) => a - b);
    const most = gaps[Math.floor(gaps.length / 2)] * 4;
    return of.flatMap((point, index) => (index && point.x - of[index - 1].x > most ? [{ x: (point.x + of[index - 1].x) / 2, y: NaN }, point] : [point]));
  };

  function fieldChart(name, index) {
    const canvas = el("canvas", { role: "img", "aria-label": `Plot of ${name}` });
    const latest = el("span", { class: "sub" });
    const figure = el("figure", { class: "card" }, el("figcaption", {}, el("strong", {}, name), " ", latest), el("div", { class: "canvas" }, canvas));
    let chart = null;
    const ink = LINES[index % LINES.length];
    const paint = (of) => {
      of.datasets[0].borderColor = of.datasets[1].borderColor = "transparent";
      of.datasets[0].backgroundColor = faint(ink, 0.2);
      of.datasets[2].borderColor = colour(ink);
      of.datasets[2].backgroundColor = colour(ink);
    };
    return {
      figure,
      draw(reply, field) {
        const line = { pointRadius: 0, pointHitRadius: 8, borderWidth: 1.6, tension: 0 };
        const mean = holes(points(reply, field.mean));
        const data = { datasets: [
          { label: "max", data: holes(points(reply, field.max)), ...line, borderWidth: 0, fill: "+1", band: true },
          { label: "min", data: holes(points(reply, field.min)), ...line, borderWidth: 0, fill: false, band: true },
          { label: field.name, data: mean, ...line, fill: false, pointRadius: mean.length < 3 ? 3 : 0 },
        ] };
        const values = field.mean.filter((of) => of !== null);
        setText(latest, values.length ? `last ${value(values.at(-1))} · lowest ${value(Math.min(...field.min.filter((of) => of !== null)))} · highest ${value(Math.max(...field.max.filter((of) => of !== null)))}` : "nothing in this range");
        const [from, to] = [reply.from_ms, reply.from_ms + reply.steps * reply.step_ms];
        if (chart) {
          const drawn = chart.chart();
          if (drawn) Object.assign(drawn.options.scales.x, { min: from, max: to });
          chart.update(data);
        } else {
          chart = plot(canvas, { type: "line", data, options: base(from, to, value), plugins: [zoom] }, paint);
        }
      },
      leave: () => chart?.leave(),
    };
  }

  let silences = null;
  function drawSilence(reply) {
    const [from, to] = [reply.from_ms, reply.from_ms + reply.steps * reply.step_ms];
    const bars = points(reply, reply.silence_ms);
    const limit = deadline ? [{ x: from, y: deadline }, { x: to, y: deadline }] : [];
    const data = { datasets: [
      { type: "line", label: "deadline", data: limit, pointRadius: 0, borderWidth: 1.5, borderDash: [6, 4] },
      { type: "line", label: "longest silence", data: bars, pointRadius: 1.5, borderWidth: 1, fill: "origin", stepped: "middle" },
    ] };
    const paint = (of) => {
      of.datasets[0].borderColor = of.datasets[0].backgroundColor = colour("gone");
      of.datasets[1].borderColor = colour("line-1");
      of.datasets[1].backgroundColor = faint("line-1", 0.25);
    };
    if (silences) {
      const drawn = silences.chart();
      if (drawn) Object.assign(drawn.options.scales.x, { min: from, max: to });
      silences.update(data);
    } else {
      const options = base(from, to, duration);
      options.scales.y.beginAtZero = true;
      silences = plot(silence, { type: "line", data, options, plugins: [zoom] }, paint);
    }
    const known = reply.silence_ms.filter((of) => of !== null);
    const longest = known.length ? Math.max(...known) : null;
    if (longest === null || !deadline) {
      setText(fits, longest === null ? "Nothing has arrived in this range." : "");
      setClass(fits, "fits sub");
      return;
    }
    const part = longest / deadline;
    const share = `${Math.round(part * 100)} % of the deadline of ${duration(deadline)}`;
    const words = part < 0.5 ? "the deadline fits" : part < 0.9 ? "the deadline is tight" : part <= 1 ? "the deadline is too tight" : "the deadline was passed";
    setText(fits, `The longest silence in this range was ${duration(longest)}, ${share}: ${words}.`);
    setClass(fits, part < 0.5 ? "fits good" : part <= 1 ? "fits fair" : "fits bad");
  }

  function drawFields(reply) {
    const names = reply.fields.map((field) => `${field.measurement} ${field.name}`);
    reply.fields.forEach((field, index) => {
      const name = names[index];
      if (!chosen.has(name)) {
        const box = el("input", { type: "checkbox", checked: [...chosen.values()].filter((of) => of.checked).length < FIELDS_SHOWN_FIRST, onchange: refresh });
        chosen.set(name, box);
        fieldList.append(el("label", {}, box, " ", field.name));
      }
      if (!chosen.get(name).checked) return;
      if (!plots.has(name)) {
        plots.set(name, fieldChart(field.name, plots.size));
        fieldPlots.append(plots.get(name).figure);
      }
      plots.get(name).draw(reply, field);
    });
    for (const [name, of] of plots) {
      if (chosen.get(name)?.checked && names.includes(name)) continue;
      of.leave();
      of.figure.remove();
      plots.delete(name);
    }
    fieldList.hidden = chosen.size < 2;
  }

  async function refresh() {
    if (left) return;
    buttons();
    const ours = (asked += 1);
    const to = end ?? now();
    const query = new URLSearchParams({ from: new Date(to - range).toISOString(), to: new Date(to).toISOString(), points: POINTS });
    try {
      const reply = await get(`api/publishers/${encodeURIComponent(id)}/readings?${query}`);
      if (ours !== asked || left) return;
      wrong.textContent = "";
      const many = `${count(reply.readings)} readings, ${count(reply.heartbeats)} heartbeats`;
      setText(note, reply.truncated ? `${many}; there is more than could be read: choose a shorter range` : end === null ? many : `${many}, until ${time(to)}`);
      drawFields(reply);
      drawSilence(reply);
    } catch (error) {
      if (ours === asked) wrong.textContent = error.message;
    }
  }
  const following = setInterval(() => {
    if (end === null && !document.hidden && store.connection === "live") refresh();
  }, 2000);
  refresh();
  return {
    element,
    refresh,
    deadline(ms) {
      if (deadline === ms) return;
      deadline = ms;
      refresh();
    },
    leave() {
      left = true;
      clearInterval(following);
      for (const of of plots.values()) of.leave();
      silences?.leave();
    },
  };
}
