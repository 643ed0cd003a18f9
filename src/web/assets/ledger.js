// The account of every row.

import { el, setClass, setText } from "./dom.js";
import { get } from "./session.js";
import { on } from "./store.js";
import { table } from "./table.js";
import { count, exactTime, time } from "./format.js";

const EVERY = 2000;
const NUMBERS = ["produced", "received", "stored", "buffered", "missing", "lost", "expired", "duplicates", "conflicts"];

export function ledger(main) {
  const verdict = el("p", { class: "balance", role: "status" });
  const total = el("dl", { class: "facts" });
  const parts = Object.fromEntries(NUMBERS.map((name) => {
    const text = el("dd", {}, "…");
    const box = el("div", { class: "fact" }, el("dt", {}, name), text);
    total.append(box);
    return [name, { box, text }];
  }));
  const wrong = el("p", { class: "wrong", role: "alert" });
  const begun = (incarnation) => incarnation / 1000;
  const accounts = table("Account of each publisher's life", [
    { name: "Publisher", kind: "who", cell: (line) => el("a", { href: `#/publisher/${encodeURIComponent(line.publisher)}` }, line.publisher) },
    { name: "Started", kind: "when", cell: (line) => (begun(line.incarnation) > 1e12 ? el("time", { title: `${exactTime(begun(line.incarnation))}, incarnation ${line.incarnation}` }, time(begun(line.incarnation))) : line.incarnation) },
    ...NUMBERS.map((name) => ({ name, kind: "number", cell: (line) => (name === "lost" && line.lost ? el("strong", { class: "lost" }, count(line.lost)) : count(line[name])) })),
  ], "No publisher has numbered a reading yet.");
  const losses = table("Readings that are gone for good", [
    { name: "Publisher", kind: "who", cell: (loss) => el("a", { href: `#/publisher/${encodeURIComponent(loss.publisher)}` }, loss.publisher) },
    { name: "Numbers", kind: "number", cell: (loss) => (loss.first === loss.last ? count(loss.first) : `${count(loss.first)} – ${count(loss.last)}`) },
    { name: "How many", kind: "number", cell: (loss) => el("strong", { class: "lost" }, count(loss.count)) },
    { name: "Why", kind: "why", cell: (loss) => loss.reason },
  ], "Nothing is lost.");
  main.append(el("h1", {}, "Ledger"), verdict, total, wrong, el("h2", {}, "Every life of every publisher"), accounts.element,
    el("h2", {}, "Lost readings"), losses.element);

  let key = "";
  async function load() {
    if (document.hidden) return;
    try {
      const [view, gone] = await Promise.all([get("api/ledger"), get("api/errors")]);
      wrong.textContent = "";
      for (const name of NUMBERS) setText(parts[name].text, count(view.total[name]));
      setClass(parts.lost.box, view.total.lost ? "fact loud" : "fact");
      setText(verdict, view.balances ? "It balances: produced = stored + buffered + missing + lost + expired." : "It does NOT balance: produced differs from stored + buffered + missing + lost + expired.");
      setClass(verdict, view.balances ? "balance" : "balance wrong");
      const fresh = JSON.stringify([view.accounts, gone.losses]);
      if (fresh === key) return;
      key = fresh;
      accounts.set(view.accounts.toSorted((a, b) => b.lost - a.lost || b.missing - a.missing || (a.publisher < b.publisher ? -1 : 1) || b.incarnation - a.incarnation).slice(0, 1000));
      losses.set(gone.losses);
    } catch (error) {
      wrong.textContent = error.message;
    }
  }
  load();
  const loading = setInterval(load, EVERY);
  const stop = on("connection", (state) => { if (state === "live") load(); });
  return () => { clearInterval(loading); stop(); };
}
