// A list of any length of which only the visible rows exist. Rows have one fixed height, so scrolling
// never lays anything out twice; a row keeps its element while it stays in view, and so its focus.

export class Rows {
  /**
   * `body` holds the rows, the window scrolls. `create(item)` makes a row's element, `update(element, item)`
   * fills it, `key(item)` tells items apart.
   */
  constructor(body, { create, update, key }) {
    Object.assign(this, { body, create, update, key, items: [], shown: new Map(), height: 48 });
    this.draw = this.draw.bind(this);
    this.scrolled = () => {
      this.frame ??= requestAnimationFrame(() => {
        this.frame = undefined;
        this.draw();
      });
    };
    window.addEventListener("scroll", this.scrolled, { passive: true });
    window.addEventListener("resize", this.scrolled);
    this.narrow = matchMedia("(max-width: 760px)");
    this.narrow.addEventListener("change", this.scrolled);
  }

  leave() {
    window.removeEventListener("scroll", this.scrolled);
    window.removeEventListener("resize", this.scrolled);
    this.narrow.removeEventListener("change", this.scrolled);
  }

  set(items) {
    this.items = items;
    this.draw();
  }

  visible() {
    return [...this.shown.values()].map(({ item }) => item);
  }

  draw() {
    this.height = Number.parseFloat(getComputedStyle(this.body).getPropertyValue("--row-height")) || 48;
    const total = `${this.items.length * this.height}px`;
    if (this.body.style.height !== total) this.body.style.height = total;
    const top = -this.body.getBoundingClientRect().top;
    const spare = 6;
    const first = Math.max(0, Math.floor(top / this.height) - spare);
    const last = Math.min(this.items.length, Math.ceil((top + window.innerHeight) / this.height) + spare);
    const wanted = new Map();
    for (let index = first; index < last; index += 1) wanted.set(this.key(this.items[index]), index);
    for (const [key, { element }] of this.shown) {
      if (wanted.has(key)) continue;
      if (element.contains(document.activeElement)) document.activeElement.blur();
      element.remove();
      this.shown.delete(key);
    }
    for (const [key, index] of wanted) {
      const item = this.items[index];
      let row = this.shown.get(key);
      if (!row) {
        row = { element: this.create(item), index: -1 };
        this.shown.set(key, row);
        this.body.append(row.element);
      }
      row.item = item;
      if (row.index !== index) {
        row.index = index;
        row.element.style.transform = `translateY(${index * this.height}px)`;
        row.element.setAttribute("aria-rowindex", index + 2);
      }
      this.update(row.element, item);
    }
    this.order();
  }

  /** The order in the document is the order on the screen, for the keyboard and for screen readers. */
  order() {
    const rows = [...this.shown.values()].sort((a, b) => a.index - b.index);
    let at = this.body.firstElementChild;
    for (const { element } of rows) {
      if (element === at) at = at.nextElementSibling;
      else this.body.insertBefore(element, at);
    }
  }

  /** Fills the rows that are shown again, without a new order. */
  refresh(update = this.update) {
    for (const { element, item } of this.shown.values()) update(element, item);
  }
}
