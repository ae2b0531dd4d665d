// Arcs over a text, from one token to those before it: drawn where the tokens stand, anew when lines break elsewhere.
import { draw } from "./state.js";

const MOST = 12;
const LEAST = 0.04; // of the largest
const WIDEST = 4.5;

export class Arcs {
  /** `choose(name)`: an arc was clicked. */
  constructor(svg, text, choose) {
    Object.assign(this, { svg, text, choose, from: null, to: [] });
    new ResizeObserver(() => this.#draw()).observe(text);
  }

  /** `to`: where arcs lead, `{element, value, name, says}`; from nothing, no arcs. */
  show(from, to) {
    this.from = from;
    const most = Math.max(...to.map(({ value }) => Math.abs(value)), 1e-12);
    this.to = to.map((each) => ({ ...each, share: each.value / most }))
      .filter(({ element, share }) => element && Math.abs(share) >= LEAST)
      .sort((a, b) => Math.abs(b.share) - Math.abs(a.share))
      .slice(0, MOST);
    this.#draw();
  }

  #draw() {
    const box = this.svg.getBoundingClientRect();
    if (!this.from || !box.width) {
      this.svg.replaceChildren();
      return;
    }
    // A token may be broken over two lines: its widest piece counts.
    const top = (element) => {
      const pieces = [...element.getClientRects()].sort((a, b) => b.width - a.width);
      const piece = pieces[0] ?? element.getBoundingClientRect();
      return { x: piece.left + piece.width / 2 - box.left, y: piece.top - box.top };
    };
    const start = top(this.from);
    this.svg.replaceChildren(...this.to.map(({ element, share, name, says }) => {
      const end = top(element);
      const far = Math.abs(end.x - start.x) + 3 * Math.abs(end.y - start.y);
      const rise = Math.min(17, 7 + far / 30);
      const self = element === this.from;
      const path = self
        ? `M ${start.x - 5} ${start.y} C ${start.x - 8} ${start.y - 13}, ${start.x + 8} ${start.y - 13}, ${start.x + 5} ${start.y}`
        : `M ${start.x} ${start.y} C ${start.x} ${start.y - rise}, ${end.x} ${end.y - rise}, ${end.x} ${end.y}`;
      const size = Math.abs(share);
      const arc = draw("path", { d: path, class: share < 0 ? "less" : "more", "stroke-width": Math.max(0.8, WIDEST * size), "stroke-opacity": 0.3 + 0.6 * size });
      // A wider one that nobody sees is easier to hit.
      const hit = draw("path", { d: path, class: "hit" }, draw("title", {}, says));
      hit.addEventListener("click", () => this.choose(name));
      return draw("g", {}, arc, hit);
    }));
  }
}
