// One publisher: why it has its verdict, its past, its readings, and what can be done.

import { KNOWN, WHAT, WHEN, WHY } from "./changes.js";
import { confirmed } from "./dialog.js";
import { el, setClass, setText } from "./dom.js";
import { readings } from "./readings.js";
import { get, mayChange } from "./session.js";
import { now, on, store } from "./store.js";
import { drawStrip, pieces, strip } from "./timeline.js";
import { table } from "./table.js";
import { badge, meaning, notes, setBadge } from "./verdict.js";
import { count, counting, duration, exactTime, lasting, time, why } from "./format.js";

const EVERY = 2000;
const DAY = 86400000;
const KINDS = {
  silence: "Heard", expected: "Expected", process: "Process", goodbye: "Goodbye", "last-will": "Broker", lease: "Lease", observer: "Monitor", host: "Host", exit: "Exit", progress: "Progress", speaker: "Speaks", "ruled-out": "Ruled out",
};

/** What an operator can do; each asks first. */
const ACTIONS = {
  probe: (id) => ({ title: `Look at the process of ${id} now?`, words: "The probe looks at its process once. That disturbs nothing; a process that has ended changes the verdict.", button: "Probe now",
    path: `api/publishers/${encodeURIComponent(id)}/probe`, done: (answer) => `${answer.found}. The verdict is ${answer.verdict}.` }),
  restart: (id) => ({ title: `Restart ${id}?`, words: "Its process is told to end (SIGTERM, after 10 s SIGKILL) and is started again. Readings in its buffer are kept.", button: "Restart",
    path: `api/publishers/${encodeURIComponent(id)}/restart`, done: (answer) => `Told. PID ${answer.pid} is being replaced.` }),
  maintenance: (id) => ({ title: `Maintenance of ${id}?`, words: "Its verdicts are decided and shown as ever, and nobody is told of them until the window ends.", button: "Begin",
    choice: { label: "For", options: [["15", "15 minutes"], ["60", "an hour"], ["240", "4 hours"], ["1440", "a day"]] },
    path: "api/maintenance", body: (minutes) => ({ publisher: id, minutes: Number(minutes), reason: "from the page" }), done: () => "The window is open." }),
  "end-maintenance": (id) => ({ title: `End the maintenance of ${id}?`, words: "From then on its verdicts are told again. A window that covers more than this publisher is ended by its own name: heartwatch maintenance lists them.", button: "End it",
    path: "api/maintenance/end", body: () => ({ publisher: id }), done: () => "It has ended." }),
};
const NAMES = { probe: "Probe now", restart: "Restart", maintenance: "Maintenance", "end-maintenance": "End maintenance" };

export function publisher(main, id, given) {
  const parts = {
    badge: badge("unknown"), notes: el("span", { class: "notes" }), sentence: el("p", { class: "sentence" }), place: el("p", { class: "sub" }), actions: el("div", { class: "buttons" }),
    fill: el("span", { class: "fill" }), seen: el("dd"), since: el("dd"), deadline: el("dd"), interval: el("dd"), known: el("dd"), stored: el("dd"), lost: el("dd"),
    evidence: el("ol", { class: "evidence" }), ruled: el("ol", { class: "evidence" }), ruledTitle: el("h3", {}, "Ruled out"), wrong: el("p", { class: "wrong", role: "alert" }),
    day: strip("Verdicts over the last day"),
  };
  const fact = (name, text) => el("div", { class: "fact" }, el("dt", {}, name), text);
  const lost = fact("Lost", parts.lost);
  const past = table("Verdict changes, newest first", [WHEN, WHAT, WHY, KNOWN], "Its verdict has not changed yet.");
  const plots = readings(id, given);
  main.append(
    el("nav", { class: "crumbs", "aria-label": "Where you are" }, el("a", { href: "#/" }, "Overview"), el("span", { "aria-hidden": "true" }, " / "), id),
    el("header", { class: "title" }, el("div", {}, el("h1", {}, id, " ", parts.badge, parts.notes), parts.place), parts.actions),
    parts.wrong, parts.sentence,
    el("dl", { class: "facts" }, fact("Last seen", parts.seen), fact("Deadline", parts.deadline), fact("Verdict since", parts.since), fact("Promises", parts.interval), fact("Known after", parts.known), fact("Rows stored", parts.stored), lost),
    el("div", { class: "columns" },
      el("section", { class: "card", "aria-label": "Evidence" }, el("h2", {}, "Evidence"), parts.evidence, parts.ruledTitle, parts.ruled),
      el("section", { class: "card", "aria-label": "History" }, el("h2", {}, "History"), parts.day, el("p", { class: "axis sub" }, el("span", {}, "a day ago"), el("span", {}, "now")), past.element)),
    plots.element,
  );

  let view = null;
  let key = "";
  function live() {
    const of = store.publishers.get(id);
    if (!of) return;
    setBadge(parts.badge, of.verdict);
    const at = now();
    setText(parts.since, `${lasting(at - of.sinceMs)}`);
    parts.since.title = exactTime(of.sinceMs);
    setText(parts.seen, of.seenMs === null ? "never" : `${counting(at - of.seenMs)} ago`);
    const left = of.seenMs === null ? 0 : Math.max(0, 1 - (at - of.seenMs) / of.deadline_ms);
    parts.fill.style.transform = `scaleX(${left.toFixed(3)})`;
    setClass(parts.fill, `fill ${of.seenMs === null || of.verdict === "ended" ? "none" : left > 0.5 ? "much" : left > 0.2 ? "some" : "little"}`);
    setText(parts.stored, count(of.ledger.stored));
    const { missing, expired = 0, conflicts = 0 } = of.ledger;
    const besides = [[missing, "missing"], [expired, "expired"], [conflicts, "conflicts"]].filter(([rows]) => rows).map(([rows, what]) => `${count(rows)} ${what}`);
    setText(parts.lost, besides.length ? `${count(of.ledger.lost)} (${besides.join(", ")})` : count(of.ledger.lost));
    setClass(lost, of.ledger.lost ? "fact loud" : "fact");
  }
  function draw() {
    setText(parts.place, [view.host, view.pid ? `PID ${view.pid}` : "no PID known", meaning(view.verdict)].join(" · "));
    setText(parts.sentence, view.summary ? sentence(view.summary) : `${view.verdict}: no verdict has been given yet.`);
    parts.deadline.replaceChildren(duration(view.deadline_ms), el("span", { class: "bar", "aria-hidden": "true" }, parts.fill));
    parts.deadline.title = view.deadline_basis ?? "";
    setText(parts.interval, view.interval_ms ? `a sign every ${duration(view.interval_ms)}` : "nothing");
    const change = view.change;
    setText(parts.known, change ? duration(Math.max(0, Date.parse(change.decided_at) - Date.parse(change.at))) : "–");
    const evidence = change?.evidence ?? [];
    const item = (of) => el("li", {}, el("span", { class: "kind" }, KINDS[of.kind] ?? of.kind), el("span", {}, of.detail));
    const facts = evidence.filter((of) => of.kind !== "ruled-out");
    const ruled = evidence.filter((of) => of.kind === "ruled-out");
    parts.evidence.replaceChildren(...facts.map(item));
    if (change) parts.evidence.prepend(el("li", {}, el("span", { class: "kind" }, "True since"), el("span", {}, `${time(Date.parse(change.at))}, known at ${time(Date.parse(change.decided_at))} (${change.trigger})`)));
    else parts.evidence.append(el("li", {}, el("span", {}, "None yet.")));
    parts.ruled.replaceChildren(...ruled.map(item));
    parts.ruledTitle.hidden = parts.ruled.hidden = ruled.length === 0;
    const history = view.history.toReversed();
    past.set(history.slice(0, 50));
    const to = now();
    const from = to - DAY;
    const inside = view.history.filter((of) => Date.parse(of.at) >= from).map((of) => [of.epoch, id, Date.parse(of.at), of.from, of.to]);
    drawStrip(parts.day, pieces(inside, view.verdict, Date.parse(view.since), from, to), from, to);
    parts.notes.replaceChildren(...notes(view));
    const actions = [...view.actions, view.maintenance ? "end-maintenance" : "maintenance"];
    parts.actions.replaceChildren(...actions.filter((name) => ACTIONS[name]).map((name) =>
      el("button", { type: "button", "data-action": name, disabled: !mayChange(), title: mayChange() ? "" : "You may look and not change", onclick: () => confirmed(ACTIONS[name](id)) }, NAMES[name])));
    plots.deadline(view.deadline_ms);
    live();
  }
  async function load() {
    if (document.hidden) return;
    try {
      view = await get(`api/publishers/${encodeURIComponent(id)}`);
      parts.wrong.textContent = "";
      const { last_seen: _, ledger: __, ...facts } = view;
      const fresh = JSON.stringify(facts);
      if (fresh !== key) {
        key = fresh;
        draw();
      }
    } catch (error) {
      parts.wrong.textContent = error.message;
    }
  }
  const stops = [
    on("change", (change) => { if (change.publisher === id) load(); }),
    on("pulse", live),
    on("connection", (state) => { if (state === "live") { load(); plots.refresh(); } }),
  ];
  const loading = setInterval(load, EVERY);
  const ticking = setInterval(() => { if (!document.hidden) live(); }, 250);
  load();
  return () => {
    stops.forEach((stop) => stop());
    clearInterval(loading);
    clearInterval(ticking);
    plots.leave();
  };
}

/** "dead: silent 5 s; PID 8 is gone" as a sentence. */
function sentence(summary) {
  const words = why(summary);
  const verdict = summary.slice(0, summary.length - words.length).replace(/: $/, "");
  const text = `${verdict ? `${verdict}: ` : ""}${words}`;
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
