// Who we are to the monitor, and requests in that name.

let session = { login: false, role: null, csrf: null, user: null, can_log_out: false };
const listeners = new Set();

export const me = () => session;
export const mayChange = () => session.role === "operator";
export const onSession = (listener) => listeners.add(listener);

function settle(answer) {
  session = answer;
  for (const listener of listeners) listener(session);
  return session;
}

/** An error with the monitor's own words. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function words(answer) {
  try {
    return (await answer.json()).error ?? answer.statusText;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-cache", credentials: "same-origin", ...options });
  if (answer.ok) return answer.json();
  const refused = new Refused(answer.status, await words(answer));
  if (answer.status === 401 && path !== "api/session") settle({ ...session, login: true });
  throw refused;
}

export const get = (path) => ask(path);
export const refreshSession = async () => settle(await ask("api/session"));

export function post(path, body) {
  const headers = { "X-Heartwatch-Csrf": session.csrf ?? "" };
  if (body === undefined) return ask(path, { method: "POST", headers });
  return ask(path, { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

export async function logIn(credentials) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(credentials) };
  return settle(await ask("api/session", options));
}

export async function logOut() {
  settle({ ...(await ask("api/session", { method: "DELETE" })), login: true });
}
