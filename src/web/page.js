"use strict";
// What the monitor says, shown as text: nothing from outside is ever put into the page as markup.
const LEVEL = { alive: 0, ended: 0, late: 1, silent: 2, hung: 3, stopped: 3, unreachable: 4, dead: 5, "never-started": 5, unknown: -1 };
const EVENTS_MAX = 100;
const byId = (id) => document.getElementById(id);
let lastAnswer = 0;

function cell(text, className) {
  const td = document.createElement("td");
  td.textContent = text;
  if (className) td.className = className;
  return td;
}
const clock = (time) => new Date(time).toLocaleTimeString();
function ago(time) {
  if (!time) return "never";
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  return seconds < 60 ? `${seconds.toFixed(1)} s ago` : `${Math.floor(seconds / 60)} min ago`;
}
function show(status) {
  const worst = [...status.publishers].sort((a, b) => LEVEL[b.verdict] - LEVEL[a.verdict] || a.id.localeCompare(b.id));
  const rows = worst.map((p) => {
    const row = document.createElement("tr");
    const why = p.summary.replace(/^[a-z -]+: /, "");
    row.append(cell(p.id), cell(p.verdict, `verdict level${LEVEL[p.verdict]}`), cell(ago(p.last_seen)), cell(p.pid ?? "–"),
      cell(p.ledger.stored), cell(p.ledger.lost, p.ledger.lost ? "lost" : ""), cell(why));
    return row;
  });
  if (rows.length) byId("publishers").replaceChildren(...rows);
  byId("sinks").textContent = status.sinks.map((s) => `${s.name}: ${s.state}, ${s.buffered_rows} rows wait`).join(" · ");
  const suspect = status.observer.state === "suspect";
  byId("observer").hidden = !suspect;
  byId("observer").textContent = suspect ? `The monitor doubts itself: ${status.observer.reason}` : "";
}
async function refresh() {
  try {
    const answer = await fetch("api/status");
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.json());
    lastAnswer = Date.now();
    byId("connection").textContent = "live";
  } catch {
    const age = lastAnswer ? `, shown is ${ago(lastAnswer)}` : "";
    byId("connection").textContent = `no connection to the monitor${age}`;
  }
}
const stream = new EventSource("api/stream");
stream.addEventListener("change", (event) => {
  const change = JSON.parse(event.data);
  const item = document.createElement("li");
  item.value = change.epoch;
  item.textContent = `${clock(change.decided_at)} ${change.publisher}: ${change.from} → ${change.to}, ${change.summary}`;
  byId("events").prepend(item);
  while (byId("events").children.length > EVENTS_MAX) byId("events").lastChild.remove();
  refresh();
});
stream.addEventListener("missed", refresh);
fetch("api/events").then((r) => r.json()).then((changes) => {
  for (const change of changes.slice(-EVENTS_MAX)) {
    const item = document.createElement("li");
    item.value = change.epoch;
    item.textContent = `${clock(change.decided_at)} ${change.publisher}: ${change.from} → ${change.to}, ${change.summary}`;
    byId("events").prepend(item);
  }
}).catch(() => {});
refresh();
setInterval(refresh, 1000);
