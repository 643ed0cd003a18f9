// What the monitor has said, and how old it is. Everything on the page is drawn from here.

import { get, me, refreshSession } from "./session.js";

const HOUR = 3600000;
const TIMELINE_MAX = 20000;

export const store = {
  publishers: new Map(),
  observer: { state: "ok", reason: "" },
  sinks: [],
  totals: null,
  messages: 0,
  malformed: 0,
  rules: 0,
  alarms: 0,
  oversized: 0,
  startedAt: null,
  /** Changes of the last hour, oldest first: epoch, publisher, when (ms), from, to. */
  timeline: [],
  rates: { messages: null, rows: null, draining: null },
  /** connecting, live or lost */
  connection: "connecting",
  lostAt: null,
  heard: false,
};

const listeners = { pulse: new Set(), change: new Set(), connection: new Set(), timeline: new Set() };
export function on(topic, listener) {
  listeners[topic].add(listener);
  return () => listeners[topic].delete(listener);
}
const tell = (topic, what) => listeners[topic].forEach((listener) => listener(what));

let source = null;
let lastEpoch = 0;
let pulseAt = 0; // the monitor's clock at the last pulse
let pulseHere = 0; // ours
let nextMs = 1000;
let before = null;
let retry = 0;

/** The monitor's clock as far as we know it; it stands still while nothing is heard of it. */
export function now() {
  if (!store.heard) return Date.now();
  return store.connection === "live" ? pulseAt + (performance.now() - pulseHere) : pulseAt;
}

/** How old what we show is. */
export const age = () => performance.now() - pulseHere;

function setConnection(state) {
  if (store.connection === state) return;
  if (state === "lost") store.lostAt = Date.now();
  store.connection = state;
  tell("connection", state);
}

function note(publisher) {
  publisher.sinceMs = Date.parse(publisher.since);
  publisher.seenMs = publisher.last_seen ? Date.parse(publisher.last_seen) : null;
  const old = store.publishers.get(publisher.id);
  if (old) Object.assign(old, publisher);
  else store.publishers.set(publisher.id, publisher);
  return !old || old.verdict !== publisher.verdict;
}

function rates(pulse) {
  const rows = pulse.totals.received;
  const waiting = pulse.sinks.reduce((sum, sink) => sum + sink.buffered_rows, 0);
  if (before && pulse.at > before.at && pulse.started_at === before.startedAt) {
    const seconds = (pulse.at - before.at) / 1000;
    const smooth = (old, value) => (old === null ? value : old * 0.6 + value * 0.4);
    store.rates.messages = smooth(store.rates.messages, Math.max(0, pulse.messages - before.messages) / seconds);
    store.rates.rows = smooth(store.rates.rows, Math.max(0, rows - before.rows) / seconds);
    store.rates.draining = smooth(store.rates.draining, (before.waiting - waiting) / seconds);
  } else {
    store.rates = { messages: null, rows: null, draining: null };
  }
  before = { at: pulse.at, startedAt: pulse.started_at, messages: pulse.messages, rows, waiting };
}

function onPulse(event) {
  const pulse = JSON.parse(event.data);
  const restarted = store.startedAt !== null && store.startedAt !== pulse.started_at;
  pulseAt = pulse.at;
  pulseHere = performance.now();
  nextMs = pulse.next_ms;
  retry = 0;
  if (pulse.full) {
    const there = new Set(pulse.publishers.map((publisher) => publisher.id));
    for (const id of store.publishers.keys()) if (!there.has(id)) store.publishers.delete(id);
  }
  for (const publisher of pulse.publishers) note(publisher);
  for (const [id, seen, [produced, received, stored, buffered, duplicates, missing, lost, expired, conflicts]] of pulse.seen) {
    const publisher = store.publishers.get(id);
    if (!publisher) continue;
    publisher.seenMs = seen;
    publisher.ledger = { produced, received, stored, buffered, duplicates, missing, lost, expired, conflicts };
  }
  for (const id of pulse.gone) store.publishers.delete(id);
  const { observer, sinks, totals, messages, malformed, oversized, rules, alarms } = pulse;
  Object.assign(store, { observer, sinks, totals, messages, malformed, oversized, rules, alarms, startedAt: pulse.started_at, heard: true });
  rates(pulse);
  const first = store.connection !== "live";
  setConnection("live");
  tell("pulse", { full: pulse.full, restarted });
  if (first || pulse.full) loadTimeline();
}

function onChange(event) {
  const change = JSON.parse(event.data);
  lastEpoch = Math.max(lastEpoch, change.epoch);
  const publisher = store.publishers.get(change.publisher);
  if (publisher) {
    publisher.verdict = change.to;
    publisher.sinceMs = Date.parse(change.at);
    publisher.summary = change.summary;
  }
  const last = store.timeline.at(-1);
  if (!last || last[0] < change.epoch) {
    store.timeline.push([change.epoch, change.publisher, Date.parse(change.at), change.from, change.to]);
    if (store.timeline.length > TIMELINE_MAX) store.timeline.splice(0, store.timeline.length - TIMELINE_MAX);
  }
  tell("change", change);
}

async function loadTimeline() {
  try {
    const { changes } = await get("api/timeline?minutes=60");
    const known = changes.at(-1)?.[0] ?? 0;
    store.timeline = [...changes, ...store.timeline.filter((change) => change[0] > known)];
    if (known > lastEpoch) lastEpoch = known;
    tell("timeline");
  } catch {
    // the stream says when there is no connection
  }
}

/** Forgets what is older than the hour that the page shows. */
export function trimTimeline() {
  const from = now() - HOUR;
  let old = 0;
  while (old < store.timeline.length && store.timeline[old][2] < from - HOUR) old += 1;
  if (old) store.timeline.splice(0, old);
}

function connect() {
  source?.close();
  source = new EventSource(`api/stream?pulse=true${lastEpoch ? `&after=${lastEpoch}` : ""}`);
  source.addEventListener("pulse", onPulse);
  source.addEventListener("change", onChange);
  source.addEventListener("error", () => {
    setConnection("lost");
    // CLOSED: the monitor has answered and refused; the browser does not try again by itself
    if (source.readyState === EventSource.CLOSED) later();
  });
}

function later() {
  source?.close();
  source = null;
  retry = Math.min(retry + 1, 5);
  setTimeout(async () => {
    try {
      await refreshSession();
    } catch {
      return later();
    }
    if (!me().login) connect();
    return undefined;
  }, 500 * retry);
}

/** A monitor that stands still keeps its connections open: silence tells. */
function watch() {
  if (store.connection === "live" && age() > Math.max(3 * nextMs, 4000)) {
    setConnection("lost");
    later();
  }
}

export function start() {
  connect();
  setInterval(watch, 500);
}

export function restart() {
  lastEpoch = 0;
  connect();
}
