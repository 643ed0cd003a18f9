// Everybody, worst first.

import { hourChart } from "./history.js";
import { atMostEvery, byId, el, setClass, setText, svg } from "./dom.js";
import { Rows } from "./virtual_list.js";
import { get } from "./session.js";
import { now, on, store, trimTimeline } from "./store.js";
import { drawStrip, pieces, spark, strip } from "./timeline.js";
import { badge, group, notes, rank, setBadge, VERDICTS } from "./verdict.js";
import { bytes, count, counting, duration, lasting, shortCount, standing, value } from "./format.js";

const HOUR = 3600000;
const filter = { text: "", verdict: "", host: "" };
const recent = new Map();
const RECENT_MAX = 2000;

function worstFirst(a, b) {
  return rank(a.verdict) - rank(b.verdict) || (b.ledger.lost > 0) - (a.ledger.lost > 0) || (a.id < b.id ? -1 : 1);
}

function passes(publisher) {
  if (filter.verdict && publisher.verdict !== filter.verdict) return false;
  if (filter.host && publisher.host !== filter.host) return false;
  if (!filter.text) return true;
  const text = filter.text.toLowerCase();
  return publisher.id.toLowerCase().includes(text) || publisher.host.toLowerCase().includes(text)
    || String(publisher.pid ?? "") === text || publisher.summary.toLowerCase().includes(text);
}

const cell = (name, ...children) => el("div", { role: "cell", class: name }, children);

function createRow(publisher) {
  const parts = {
    name: el("a", { class: "name", href: `#/publisher/${encodeURIComponent(publisher.id)}` }, publisher.id),
    place: el("span", { class: "sub" }),
    badge: badge(publisher.verdict), notes: el("span", { class: "notes" }), noted: "",
    why: el("span", { class: "sub" }),
    since: el("span", {}),
    seen: el("span", {}),
    limit: el("span", { class: "sub" }),
    fill: el("span", { class: "fill" }),
    latest: el("span", { class: "latest" }),
    spark: svg("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" }),
    hour: strip(""),
    stored: el("span", {}),
    lost: el("span", { class: "sub" }),
  };
  const row = el("div", { role: "row", class: "row" },
    cell("who", parts.name, parts.place),
    cell("verdict", el("span", { class: "line" }, parts.badge, parts.notes, parts.since), parts.why),
    cell("seen", el("span", { class: "line" }, parts.seen, parts.limit), el("span", { class: "bar", "aria-hidden": "true" }, parts.fill)),
    cell("values", parts.latest, parts.spark),
    cell("hour", parts.hour),
    cell("rows", parts.stored, parts.lost));
  row.parts = parts;
  return row;
}

function updateRow(row, publisher) {
  const { parts } = row;
  setText(parts.place, publisher.pid ? `${publisher.host} · PID ${publisher.pid}` : publisher.host);
  setBadge(parts.badge, publisher.verdict);
  const noted = `${publisher.maintenance?.until ?? ""} ${publisher.flapping ?? false}`;
  if (parts.noted !== noted) {
    parts.noted = noted;
    parts.notes.replaceChildren(...notes(publisher));
  }
  const words = standing(publisher, now());
  setText(parts.why, words);
  if (parts.why.title !== words) parts.why.title = words;
  const { stored, buffered, missing, lost, expired = 0, conflicts = 0 } = publisher.ledger;
  setText(parts.stored, `${shortCount(stored)} stored`);
  const rest = [];
  if (lost) rest.push(`${shortCount(lost)} lost`);
  if (missing) rest.push(`${shortCount(missing)} missing`);
  if (buffered) rest.push(`${shortCount(buffered)} wait`);
  if (expired) rest.push(`${shortCount(expired)} expired`);
  if (conflicts) rest.push(`${shortCount(conflicts)} conflicts`);
  setText(parts.lost, rest.join(" · "));
  setClass(parts.lost, lost ? "lost" : "sub");
  setClass(row, `row ${group(publisher.verdict)}`);
  const values = recent.get(publisher.id);
  if (values) {
    const field = values.fields.find(({ value: of }) => typeof of === "number") ?? values.fields[0];
    const all = values.fields.map((of) => `${of.name} ${value(of.value)}`).join("\n");
    setText(parts.latest, field ? `${field.name} ${value(field.value)}` : "");
    if (parts.latest.title !== all) parts.latest.title = all;
    spark(parts.spark, values.line);
  } else {
    setText(parts.latest, "");
    spark(parts.spark, []);
  }
  tick(row, publisher);
}

/** What counts: the time since it was seen, the bar that shrinks to its deadline. */
function tick(row, publisher) {
  const { parts } = row;
  const at = now();
  setText(parts.since, publisher.verdict === "alive" && at - publisher.sinceMs < 1000 ? "now" : `for ${lasting(at - publisher.sinceMs)}`);
  if (publisher.seenMs === null) {
    setText(parts.seen, "never seen");
    setText(parts.limit, "");
    setClass(parts.fill, "fill none");
    return;
  }
  const silent = Math.max(0, at - publisher.seenMs);
  setText(parts.seen, `${counting(silent)} ago`);
  setText(parts.limit, `of ${duration(publisher.deadline_ms)}`);
  const left = Math.max(0, 1 - silent / publisher.deadline_ms);
  parts.fill.style.transform = `scaleX(${left.toFixed(3)})`;
  setClass(parts.fill, `fill ${publisher.verdict === "ended" ? "none" : left > 0.5 ? "much" : left > 0.2 ? "some" : "little"}`);
}

function changesByPublisher() {
  const by = new Map();
  for (const change of store.timeline) {
    const list = by.get(change[1]);
    if (list) list.push(change);
    else by.set(change[1], [change]);
  }
  return by;
}

/** The numbers at the top. */
function summary() {
  const counts = el("div", { class: "counts", role: "group", "aria-label": "Filter by verdict" });
  const facts = el("dl", { class: "facts" });
  const fact = (name) => {
    const term = el("dt", {}, name);
    const text = el("dd", {});
    const box = el("div", { class: "fact" }, term, text);
    facts.append(box);
    return { box, text, term };
  };
  const parts = { lost: fact("Rows lost"), observer: fact("Monitor"), rate: fact("Arriving"), stored: fact("Stored"), bad: fact("Unreadable") };
  // only where there are rules
  let alarms;
  const sinks = new Map();
  const chips = new Map();
  for (const verdict of VERDICTS) {
    const number = el("strong", {});
    const chip = el("button", { type: "button", class: "chip", hidden: true, "aria-pressed": "false", onclick: () => {
      byId("verdict").value = filter.verdict === verdict ? "" : verdict;
      byId("verdict").dispatchEvent(new Event("change"));
    } }, number, badge(verdict));
    chips.set(verdict, { chip, number });
    counts.append(chip);
  }
  const update = () => {
    const by = new Map();
    for (const { verdict } of store.publishers.values()) by.set(verdict, (by.get(verdict) ?? 0) + 1);
    for (const [verdict, { chip, number }] of chips) {
      const many = by.get(verdict) ?? 0;
      chip.hidden = many === 0 && filter.verdict !== verdict;
      chip.setAttribute("aria-pressed", String(filter.verdict === verdict));
      setText(number, count(many));
    }
    if (!store.heard) return;
    const { totals, observer, rates } = store;
    setText(parts.lost.text, count(totals.lost));
    setClass(parts.lost.box, totals.lost ? "fact loud" : "fact");
    setText(parts.observer.text, observer.state === "ok" ? "hears its publishers" : `doubts itself: ${observer.reason}`);
    setClass(parts.observer.box, observer.state === "ok" ? "fact" : "fact warns wide");
    setText(parts.rate.text, rates.rows === null ? "…" : `${perSecond(rates.rows)} rows/s`);
    parts.rate.text.title = rates.messages === null ? "" : `${perSecond(rates.messages)} messages/s`;
    setText(parts.stored.text, `${shortCount(totals.stored)} rows`);
    const unreadable = store.malformed;
    if (parts.bad.text.dataset.count !== String(unreadable)) {
      parts.bad.text.dataset.count = unreadable;
      parts.bad.text.replaceChildren(unreadable ? el("a", { href: "#/errors" }, `${count(unreadable)} messages`) : "no message");
    }
    setClass(parts.bad.box, unreadable ? "fact warns" : "fact");
    if (store.rules || alarms) {
      alarms ??= fact("Alarms");
      if (alarms.text.dataset.count !== String(store.alarms)) {
        alarms.text.dataset.count = store.alarms;
        alarms.text.replaceChildren(store.alarms ? el("a", { href: "#/errors" }, `${count(store.alarms)} raised`) : "none raised");
      }
      setClass(alarms.box, store.alarms ? "fact loud" : "fact");
    }
    for (const sink of store.sinks) {
      if (!sinks.has(sink.name)) sinks.set(sink.name, fact(sink.name === "influxdb" ? "InfluxDB" : sink.name === "embedded" ? "Own store" : sink.name));
      const { box, text } = sinks.get(sink.name);
      const words = [sink.state];
      if (sink.buffered_rows) {
        words.push(`${shortCount(sink.buffered_rows)} rows (${bytes(sink.buffered_bytes)}) wait`);
        if (rates.draining !== null && rates.draining > 0.5) words.push(`draining ${perSecond(rates.draining)}/s`);
        if (rates.draining !== null && rates.draining < -0.5) words.push(`growing ${perSecond(-rates.draining)}/s`);
      }
      if (sink.dead_letters) words.push(`${shortCount(sink.dead_letters)} refused`);
      if (sink.moved_rows) words.push(`${shortCount(sink.moved_rows)} moved by nanoseconds`);
      setText(text, words.join(", "));
      text.title = sink.last_error;
      setClass(box, sink.state === "ok" ? "fact" : "fact warns wide");
    }
  };
  return { counts, facts, update };
}

const perSecond = (rate) => (rate < 10 ? rate.toFixed(1) : shortCount(Math.round(rate)));

function tools(changed) {
  const search = el("input", { id: "search", type: "search", placeholder: "Search id, host, PID, reason", "aria-label": "Search publishers", value: filter.text });
  const verdict = el("select", { id: "verdict", "aria-label": "Verdict" }, el("option", { value: "" }, "All verdicts"), VERDICTS.map((name) => el("option", { value: name }, name)));
  const host = el("select", { id: "host", "aria-label": "Host" }, el("option", { value: "" }, "All hosts"));
  verdict.value = filter.verdict;
  const shown = el("span", { class: "shown", role: "status" });
  const read = () => {
    Object.assign(filter, { text: search.value.trim(), verdict: verdict.value, host: host.value });
    changed();
  };
  for (const input of [search, verdict, host]) input.addEventListener(input === search ? "input" : "change", read);
  let known = "";
  const update = (many) => {
    const hosts = [...new Set([...store.publishers.values()].map((publisher) => publisher.host))].sort();
    const all = store.publishers.size;
    setText(shown, many === all ? `${count(all)} publisher${all === 1 ? "" : "s"}` : `${count(many)} of ${count(all)}`);
    if (known === hosts.join()) return;
    known = hosts.join();
    host.replaceChildren(el("option", { value: "" }, "All hosts"), ...hosts.map((name) => el("option", { value: name }, name)));
    host.value = hosts.includes(filter.host) ? filter.host : "";
    filter.host = host.value;
  };
  return { bar: el("div", { class: "tools", role: "search" }, search, verdict, host, shown), update };
}

export function overview(main) {
  const top = summary();
  const chart = hourChart();
  let stale = true;
  const bar = tools(() => { stale = true; arrange(); top.update(); });
  const body = el("div", { class: "body", role: "rowgroup" });
  const head = ["Publisher", "Verdict", "Last seen", "Latest value", "Last hour", "Rows"].map((name, at) =>
    el("div", { role: "columnheader", class: ["who", "verdict", "seen", "values", "hour", "rows"][at] }, name));
  const table = el("div", { class: "publishers", role: "table", "aria-label": "Publishers, worst first" },
    el("div", { role: "rowgroup", class: "head" }, el("div", { role: "row", class: "row", "aria-rowindex": "1" }, head)), body);
  const empty = el("p", { class: "empty", hidden: true });
  main.append(el("h1", { class: "unseen" }, "Overview"), el("section", { class: "summary", "aria-label": "Summary" }, top.counts, top.facts),
    chart.element, bar.bar, table, empty);

  let by = changesByPublisher();
  const rows = new Rows(body, { key: (publisher) => publisher.id, create: createRow, update: (row, publisher) => {
    updateRow(row, publisher);
    drawHour(row, publisher);
  } });
  function drawHour(row, publisher) {
    const to = now();
    const from = to - HOUR;
    const changes = (by.get(publisher.id) ?? []).filter((change) => change[2] >= from);
    drawStrip(row.parts.hour, pieces(changes, publisher.verdict, publisher.sinceMs, from, to), from, to);
    const label = changes.length ? `${changes.length} changes in the last hour` : `${publisher.verdict} without a change`;
    if (row.parts.hour.getAttribute("aria-label") !== label) row.parts.hour.setAttribute("aria-label", label);
  }
  function arrange() {
    if (!stale) return;
    stale = false;
    const list = [...store.publishers.values()].filter(passes).sort(worstFirst);
    table.setAttribute("aria-rowcount", list.length + 1);
    rows.set(list);
    bar.update(list.length);
    empty.hidden = list.length > 0;
    setText(empty, !store.heard ? "Waiting for the monitor…" : store.publishers.size === 0
      ? "No publisher has been heard yet. Start one: heartwatch publish --id my-first --system" : "No publisher is like that.");
  }
  async function values() {
    const ids = rows.visible().map((publisher) => publisher.id).slice(0, 100);
    if (!ids.length || document.hidden || store.connection !== "live") return;
    try {
      for (const of of await get(`api/recent?publishers=${ids.map(encodeURIComponent).join(",")}`)) {
        if (recent.size > RECENT_MAX) recent.clear();
        recent.set(of.publisher, of);
      }
      rows.refresh(updateRow);
    } catch {
      // the next pulse asks again
    }
  }
  const draw = () => {
    trimTimeline();
    by = changesByPublisher();
    arrange();
    rows.refresh();
    top.update();
  };
  // a crowd that changes at once is drawn once
  let left = false;
  const soon = atMostEvery(100, () => { if (!left) draw(); });
  const chartSoon = atMostEvery(1000, () => { if (!left) chart.update(); });
  const stops = [
    on("pulse", () => { stale = true; draw(); values(); }),
    on("change", () => { stale = true; soon(); chartSoon(); }),
    on("timeline", () => { soon(); chartSoon(); }),
  ];
  const ticking = setInterval(() => { if (!document.hidden) rows.refresh(tick); }, 250);
  const charting = setInterval(() => chart.update(), 10000);
  let scrolling;
  const scrolled = () => { clearTimeout(scrolling); scrolling = setTimeout(values, 150); };
  window.addEventListener("scroll", scrolled, { passive: true });
  draw();
  chart.update();
  values();
  return () => {
    left = true;
    stops.forEach((stop) => stop());
    clearInterval(ticking);
    clearInterval(charting);
    clearTimeout(scrolling);
    window.removeEventListener("scroll", scrolled);
    rows.leave();
    chart.leave();
  };
}
