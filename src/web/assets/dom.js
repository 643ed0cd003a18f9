// Elements from text. Nothing from outside ever becomes markup: children are nodes or text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

/** Changes a text only where it differs, so that an unchanged page is not laid out again. */
export function setText(element, text) {
  const words = String(text);
  if (element.textContent !== words) element.textContent = words;
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

/** Calls at most once in `ms`, and once more after the last wish. */
export function atMostEvery(ms, call) {
  let waiting = null;
  let calledAt = -Infinity;
  return () => {
    waiting ??= setTimeout(() => {
      waiting = null;
      calledAt = performance.now();
      call();
    }, Math.max(0, calledAt + ms - performance.now()));
  };
}

/** Says something to a screen reader, at most once a second and then the last of it. */
const pending = [];
const speak = atMostEvery(1000, () => {
  const last = pending.at(-1);
  byId("said").textContent = pending.length > 1 ? `${last}, and ${pending.length - 1} more changes` : last;
  pending.length = 0;
});
export function say(words) {
  pending.push(words);
  speak();
}
