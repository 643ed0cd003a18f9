// What could not be read, kept or written.

import { el, setText } from "./dom.js";
import { get } from "./session.js";
import { on } from "./store.js";
import { table } from "./table.js";
import { count, exactTime, time } from "./format.js";

const EVERY = 2000;
const at = { name: "When", kind: "when", cell: (of) => el("time", { datetime: of.at, title: exactTime(Date.parse(of.at)) }, time(Date.parse(of.at))) };

export function errors(main) {
  const wrong = el("p", { class: "wrong", role: "alert" });
  const sinks = el("ul", { class: "sinks" });
  const bad = table("Messages that could not be read", [at,
    { name: "Topic", kind: "code", cell: (of) => of.topic },
    { name: "What is wrong", kind: "why", cell: (of) => of.reason },
    { name: "How it begins", kind: "code", cell: (of) => of.excerpt || "(empty)" },
  ], "Every message could be read.");
  const letters = table("Rows that the database refused", [at,
    { name: "Publisher", kind: "who", cell: (of) => (of.publisher ? el("a", { href: `#/publisher/${encodeURIComponent(of.publisher)}` }, of.publisher) : "–") },
    { name: "The database’s reason", kind: "why", cell: (of) => of.reason },
    { name: "The row", kind: "code", cell: (of) => of.line },
  ], "The database has refused no row.");
  const alarms = table("Raised alarms", [
    { name: "Since", kind: "when", cell: (of) => el("time", { datetime: of.since, title: exactTime(Date.parse(of.since)) }, time(Date.parse(of.since))) },
    { name: "Rule", kind: "who", cell: (of) => of.rule },
    { name: "Severity", kind: "who", cell: (of) => of.severity },
    { name: "Publisher", kind: "who", cell: (of) => el("a", { href: `#/publisher/${encodeURIComponent(of.publisher)}` }, of.publisher) },
    { name: "What was found", kind: "why", cell: (of) => of.summary },
  ], "No alarm is raised.");
  const damaged = table("What was found damaged on disk", [at,
    { name: "File", kind: "code", cell: (of) => of.file },
    { name: "What is wrong, and what became of it", kind: "why", cell: (of) => of.what },
  ], "Nothing was found damaged on disk.");
  const rules = el("p", { class: "sub" });
  const targets = el("ul", { class: "sinks" });
  const many = el("p", { class: "sub" });
  main.append(el("h1", {}, "Errors"), wrong, el("h2", {}, "Databases"), sinks, el("h2", {}, "Damage on disk"), damaged.element, el("h2", {}, "Messages that could not be read"), many, bad.element,
    el("h2", {}, "Dead letters"), letters.element,
    el("h2", {}, "Alarms"), rules, alarms.element, el("h2", {}, "Who is told"), targets);

  let key = "";
  async function load() {
    if (document.hidden) return;
    try {
      const [view, told, stand] = await Promise.all([get("api/errors"), get("api/notifications"), get("api/alarms")]);
      wrong.textContent = "";
      const fresh = JSON.stringify([view, told.targets, stand.rules, stand.raised.map((alarm) => [alarm.rule, alarm.publisher, alarm.summary]), stand.last_error]);
      if (fresh === key) return;
      key = fresh;
      setText(many, view.malformed ? `${count(view.malformed)} since the monitor started, ${count(view.oversized)} of them too large. The last ${count(view.bad_messages.length)}:` : "");
      bad.set(view.bad_messages);
      alarms.set(stand.raised);
      setText(rules, stand.last_error || (stand.rules.length ? `${count(stand.rules.length)} rules look at the readings.` : "No rule: [[rule]] in heartwatch.toml names what raises an alarm."));
      damaged.set(view.damage.newest);
      letters.set(view.dead_letters);
      sinks.replaceChildren(...view.sinks.map((sink) => el("li", { class: sink.last_error || sink.state !== "ok" ? "warns" : "" },
        el("strong", {}, sink.name), ` ${sink.state}`, sink.last_error ? `: ${sink.last_error}` : sink.state === "ok" ? ": no error" : "")));
      targets.replaceChildren(...told.targets.map((target) => el("li", { class: target.last_error || target.given_up ? "warns" : "" },
        el("strong", {}, target.target), ` ${target.way}, ${target.state}: ${count(target.sent)} told, ${count(target.waiting)} waiting, ${count(target.given_up)} given up`,
        target.last_error ? `; last error: ${target.last_error}` : "", target.last_given_up ? `; last given up: ${target.last_given_up}` : "")));
      if (!told.targets.length) targets.replaceChildren(el("li", {}, "Nobody: [[notify]] in heartwatch.toml names who is told of a verdict change."));
    } catch (error) {
      wrong.textContent = error.message;
    }
  }
  load();
  const loading = setInterval(load, EVERY);
  const stop = on("connection", (state) => { if (state === "live") load(); });
  return () => { clearInterval(loading); stop(); };
}
