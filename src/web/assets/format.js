// Times, durations and numbers as a person reads them, in the reader's own zone and language.

const number = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

export const count = (value) => number.format(value);
export const shortCount = (value) => (value < 100000 ? number.format(value) : compact.format(value));

export function bytes(value) {
  if (value < 1024) return `${value} bytes`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let unit = -1;
  do { value /= 1024; unit += 1; } while (value >= 1024 && unit < units.length - 1);
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** A value of a reading: as exact as is useful. */
export function value(of) {
  if (typeof of !== "number") return String(of);
  if (Number.isInteger(of) && Math.abs(of) < 1e6) return number.format(of);
  const size = Math.abs(of);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return of.toExponential(2);
  return String(Number(of.toPrecision(5)));
}

/** 340 ms, 4.2 s, 3 min 05 s, 2 h 10 min, 3 d 4 h. */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return seconds % 1 === 0 ? `${seconds} s` : `${seconds.toFixed(1)} s`;
  const pad = (value) => String(Math.floor(value)).padStart(2, "0");
  if (seconds < 3600) return seconds % 60 < 1 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 60)} min ${pad(seconds % 60)} s`;
  if (seconds < 86400) return seconds % 3600 < 60 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 3600)} h ${pad((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Counts live, always with one decimal below a minute, so that it keeps its width. */
export const counting = (ms) => (ms < 60000 ? `${(Math.max(0, ms) / 1000).toFixed(1)} s` : duration(Math.floor(ms / 1000) * 1000));

/** For how long: whole seconds, because tenths of it tell nobody anything. */
export const lasting = (ms) => (ms < 1000 ? "now" : duration(Math.floor(ms / 1000) * 1000));

const isToday = (date) => date.toDateString() === new Date().toDateString();
export function time(ms) {
  const date = new Date(ms);
  return isToday(date) ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}
/** The time of day without seconds; the day where a day begins. */
export function hours(ms) {
  const date = new Date(ms);
  return date.getHours() + date.getMinutes() === 0 ? day.format(date) : minutes.format(date);
}
export const exactTime = (ms) => whole.format(new Date(ms));

/** The words after "dead: ", which the badge beside them has said already. */
export const why = (summary) => summary.replace(/^(never started|[a-z-]+)( \([^)]*\))?: /, "");
const NEWS_FOR = 60000;
/** What stands beside a verdict: of one that is alive, what made it so is old news after a minute. */
export const standing = (publisher, at) => why(publisher.verdict === "alive" && at - publisher.sinceMs >= NEWS_FOR ? "alive: heard in time ever since" : publisher.summary);
export const millis = (rfc3339) => (rfc3339 ? Date.parse(rfc3339) : null);
