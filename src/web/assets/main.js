// Which page is shown, the connection, the theme.

import { byId, el, say, setText } from "./dom.js";
import { errors } from "./errors.js";
import { events } from "./events.js";
import { ledger } from "./ledger.js";
import { login } from "./login.js";
import { overview } from "./overview.js";
import { publisher } from "./publisher.js";
import { logOut, me, onSession, refreshSession } from "./session.js";
import { age, on, restart, start, store } from "./store.js";
import { refreshColours } from "./plot.js";
import { duration } from "./format.js";

const PAGES = [
  { path: "", name: "Overview", page: overview },
  { path: "events", name: "Events", page: events },
  { path: "ledger", name: "Ledger", page: ledger },
  { path: "errors", name: "Errors", page: errors },
];

let leave = null;
let started = false;

/** A page is a function of the main element and its arguments; it answers with how to leave it. */
function show(page, title, ...given) {
  leave?.();
  const main = byId("main");
  main.replaceChildren();
  document.title = title ? `${title} – heartwatch` : "heartwatch";
  leave = page(main, ...given) ?? null;
}

function route() {
  if (location.hash === "#main") return;
  if (me().login) {
    show(login, "Log in");
    return;
  }
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [first, ...rest] = path.split("/");
  for (const link of byId("nav").children) {
    const here = link.dataset.path === first || (first === "publisher" && link.dataset.path === "");
    if (here) link.setAttribute("aria-current", first === "publisher" ? "true" : "page");
    else link.removeAttribute("aria-current");
  }
  const given = new URLSearchParams(query);
  if (first === "publisher") {
    const id = decodeURIComponent(rest.join("/"));
    show(publisher, id, id, given);
  } else {
    const { page, name } = PAGES.find((known) => known.path === first) ?? PAGES[0];
    show(page, name, given);
  }
}

function navigated() {
  route();
  if (location.hash !== "#main") {
    window.scrollTo(0, 0);
    byId("main").focus({ preventScroll: true });
  }
}

function showConnection() {
  const pill = byId("connection");
  pill.dataset.state = store.connection;
  const words = { connecting: "connecting", live: "live", lost: "no connection" };
  setText(byId("connection-words"), words[store.connection]);
  const banner = byId("banner");
  const lost = store.connection === "lost" && !me().login;
  if (banner.hidden !== !lost) {
    banner.hidden = !lost;
    document.body.classList.toggle("stale", lost && store.heard);
  }
  if (lost) {
    const shown = store.heard ? ` What you see is ${duration(Math.floor(age() / 1000) * 1000)} old.` : "";
    setText(banner, `No connection to the monitor.${shown} Trying again…`);
  }
}

function theme() {
  const button = byId("theme");
  const choices = ["auto", "light", "dark"];
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("theme") ?? "auto";
  } catch {
    // a browser may forbid it
  }
  const apply = () => {
    document.documentElement.dataset.theme = chosen;
    button.textContent = `Theme: ${chosen}`;
    refreshColours();
  };
  button.addEventListener("click", () => {
    chosen = choices[(choices.indexOf(chosen) + 1) % choices.length];
    try {
      localStorage.setItem("theme", chosen);
    } catch {
      // then it lasts until the page is left
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refreshColours);
  apply();
}

for (const { path, name } of PAGES) {
  byId("nav").append(el("a", { href: `#/${path}`, "data-path": path }, name));
}
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("leave").addEventListener("click", logOut);
theme();
window.addEventListener("hashchange", navigated);
on("connection", showConnection);
on("change", (change) => say(`${change.publisher} is ${change.to}, was ${change.from}`));
setInterval(showConnection, 500);

let wanted = null;
onSession((session) => {
  byId("leave").hidden = !session.can_log_out;
  if (wanted === session.login) return;
  wanted = session.login;
  if (!session.login) {
    if (started) restart();
    else start();
    started = true;
  }
  route();
});
refreshSession().catch(() => {
  // the page has come from the monitor a moment ago: the stream tries again by itself
  start();
  started = true;
  route();
});
