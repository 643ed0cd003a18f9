// What happened, newest first: verdict changes, what was told to whom, and errors.

import { KNOWN, WHAT, WHEN, WHO, WHY } from "./changes.js";
import { el } from "./dom.js";
import { get } from "./session.js";
import { on } from "./store.js";
import { table } from "./table.js";
import { VERDICTS } from "./verdict.js";
import { count, exactTime, time, why } from "./format.js";

const PAGE = 100;
const SHOWN_MAX = 2000;
const EVERY = 2000;

const link = (id) => el("a", { href: `#/publisher/${encodeURIComponent(id)}` }, id);
const tag = (level, words) => el("span", { class: `badge ${level}` }, words);
const TOLD = { delivered: ["well", "told"], failed: ["quiet", "not told yet"], "given-up": ["gone", "given up"] };

/** Each kind of event: how its cells read. Changes have cells of their own in changes.js. */
const CELLS = {
  change: { who: WHO.cell, what: WHAT.cell, why: WHY.cell, known: KNOWN.cell, at: WHEN.cell },
  notice: {
    who: (of) => (of.publishers.length ? of.publishers.flatMap((id, n) => (n ? [", ", link(id)] : [link(id)])) : "–"),
    what: (of) => el("span", { class: "change" }, tag(...TOLD[of.outcome]), el("span", { class: "from" }, of.target)),
    why: (of) => [of.notices > 1 ? `${count(of.notices)} notices, the first: ` : "", why(of.summary), of.reason ? ` — ${of.reason}` : ""],
    known: () => "",
  },
  unreadable: { who: () => "–", what: () => tag("gone", "unreadable message"), why: (of) => `${of.topic}: ${of.reason}`, known: () => "" },
  refused: { who: (of) => (of.publisher ? link(of.publisher) : "–"), what: () => tag("gone", "row refused"), why: (of) => of.reason, known: () => "" },
};
const moment = ({ of }) => el("time", { datetime: of.at, title: exactTime(Date.parse(of.at)) }, time(Date.parse(of.at)));
const cell = (name) => ({ kind, of }) => CELLS[kind][name](of);
const COLUMNS = [{ ...WHEN, cell: moment }, { ...WHO, cell: cell("who") }, { ...WHAT, name: "What", cell: cell("what") },
  { ...WHY, cell: cell("why") }, { ...KNOWN, cell: cell("known") }];

export function events(main, given) {
  const kind = el("select", { id: "kind", "aria-label": "Kind of event" }, [["", "Everything"], ["change", "Verdict changes"], ["notice", "Notifications"], ["error", "Errors"]]
    .map(([value, words]) => el("option", { value }, words)));
  kind.value = given.get("kind") ?? "";
  const publisher = el("input", { id: "publisher", type: "search", placeholder: "Publisher’s id, whole", "aria-label": "Publisher", value: given.get("publisher") ?? "" });
  const verdict = el("select", { id: "to", "aria-label": "Changed to" }, el("option", { value: "" }, "Changed to any verdict"),
    el("option", { value: "dead,never-started,unreachable,hung,stopped,conflict,silent" }, "Only trouble"), VERDICTS.map((name) => el("option", { value: name }, `Changed to ${name}`)));
  verdict.value = given.get("to") ?? "";
  const wrong = el("p", { class: "wrong", role: "alert" });
  const list = table("Events, newest first", COLUMNS, "Nothing like that has happened.");
  const older = el("button", { type: "button", hidden: true }, "Show older changes");
  main.append(el("h1", {}, "Events"), el("div", { class: "tools", role: "search" }, kind, publisher, verdict, el("span", { class: "shown" }, "new ones appear by themselves")),
    wrong, list.element, older);

  let changes = []; // newest first
  let others = [];
  let more = false;
  let asked = 0;
  let drawn = "";
  const wanted = () => publisher.value.trim();
  const wants = (name) => !kind.value || kind.value === name;
  // A verdict is chosen: only changes have one.
  const wantsOthers = () => !verdict.value && (wants("notice") || wants("error"));

  function draw() {
    const all = changes.map((of) => ({ kind: "change", of })).concat(others.filter(({ of }) => {
      const last = changes.at(-1);
      // What is older than the changes that are loaded comes with them.
      return !more || !last || of.at >= last.at;
    }));
    all.sort((a, b) => Date.parse(b.of.at) - Date.parse(a.of.at));
    const key = JSON.stringify(all.slice(0, SHOWN_MAX).map(({ kind: is, of }) => [is, of.epoch ?? of.at, of.outcome]));
    if (key === drawn) return;
    drawn = key;
    list.set(all.slice(0, SHOWN_MAX));
    older.hidden = !more;
  }

  const query = (before) => {
    const ask = new URLSearchParams({ newest: "true", limit: PAGE });
    if (wanted()) ask.set("publisher", wanted());
    if (verdict.value) ask.set("to", verdict.value);
    if (before) ask.set("before", before);
    return `api/events?${ask}`;
  };
  async function load(before) {
    const ours = (asked += 1);
    try {
      const page = wants("change") ? await get(query(before)) : [];
      const found = wantsOthers() ? await loadOthers() : [];
      if (ours !== asked) return;
      wrong.textContent = "";
      changes = before ? changes.concat(page) : page;
      others = found;
      more = page.length >= PAGE && changes.length < SHOWN_MAX;
      draw();
    } catch (error) {
      wrong.textContent = error.message;
    }
  }
  async function loadOthers() {
    const [told, errors] = await Promise.all([
      wants("notice") ? get("api/notifications") : { recent: [] },
      wants("error") ? get("api/errors") : { bad_messages: [], dead_letters: [] },
    ]);
    const about = wanted();
    return [
      ...told.recent.filter((of) => !about || of.publishers.includes(about)).map((of) => ({ kind: "notice", of })),
      ...errors.bad_messages.filter((of) => !about || of.topic.split("/").includes(about)).map((of) => ({ kind: "unreadable", of })),
      ...errors.dead_letters.filter((of) => !about || of.publisher === about).map((of) => ({ kind: "refused", of })),
    ];
  }
  async function refresh() {
    if (document.hidden || !wantsOthers()) return;
    const ours = asked;
    try {
      const found = await loadOthers();
      if (ours !== asked) return;
      others = found;
      draw();
    } catch (error) {
      wrong.textContent = error.message;
    }
  }
  const filtered = () => {
    const kept = new URLSearchParams();
    if (kind.value) kept.set("kind", kind.value);
    if (wanted()) kept.set("publisher", wanted());
    if (verdict.value) kept.set("to", verdict.value);
    history.replaceState(null, "", `#/events${kept.size ? `?${kept}` : ""}`);
    verdict.disabled = !wants("change");
    load();
  };
  let typing;
  publisher.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filtered, 250); });
  for (const choice of [verdict, kind]) choice.addEventListener("change", filtered);
  older.addEventListener("click", () => load(changes.at(-1)?.epoch));
  const refreshing = setInterval(refresh, EVERY);
  const stops = [
    on("change", (change) => {
      if (change.epoch <= (changes[0]?.epoch ?? 0) || !wants("change")) return;
      const fits = (!wanted() || wanted() === change.publisher) && (!verdict.value || verdict.value.split(",").includes(change.to));
      if (!fits) return;
      changes.unshift(change);
      draw();
    }),
    on("connection", (state) => { if (state === "live") load(); }),
  ];
  verdict.disabled = !wants("change");
  load();
  return () => { stops.forEach((stop) => stop()); clearInterval(refreshing); clearTimeout(typing); };
}
