// The drawing of a graph: nodes and the strongest edges below, what moves with the pointer above.
import { number, percent, signed } from "../lib/format.js";
import { followPointer } from "../lib/scatter_pointer.js";
import { make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";
import { drawFrame, inks, LEVELS, nameGoals, outline, painted } from "./graph_ink.js";
import { laidOut, MARGIN } from "./graph_layout.js";

const REACH = 14;
/** How near a node the pointer has to be, in pixels. */
const BEHIND = 260;
/** Edges that are drawn while no node is looked at. */
const OWN = 120;
/** Edges of one node that are drawn, the largest weights at either side. */

export class GraphCanvas {
  /** `goals`: sum of their weights; `hovered(place or null)`, `chosen(place or null)`. */
  constructor(box, { goals, hovered, chosen }) {
    const [below, above] = ["below", "above"].map((name) => make("canvas", { class: name, "aria-hidden": true }));
    box.append(below, above);
    Object.assign(this, { box, below, above, goals, tell: { hovered, chosen }, n: 0, marked: null, kept: null, pins: new Map(), lasso: null });
    followPointer(this, MARGIN);
    this.paint();
    new ResizeObserver(() => this.resized()).observe(box);
  }

  /** `graph`: of `columnsOf`. */
  set(graph) {
    Object.assign(this, { graph, n: graph.n, kept: null, marked: null });
    this.resized();
  }

  /** Colours of the theme that is shown. */
  paint() {
    Object.assign(this, inks());
    if (this.n) this.draw();
  }

  resized() {
    this.ratio = window.devicePixelRatio || 1;
    this.width = Math.max(this.box.clientWidth - MARGIN.left - MARGIN.right, 50);
    this.height = Math.max(this.box.clientHeight - MARGIN.top - MARGIN.bottom, 50);
    for (const each of [this.below, this.above]) {
      [each.width, each.height] = [this.box.clientWidth, this.box.clientHeight].map((size) => Math.round(size * this.ratio));
    }
    if (!this.n) return;
    this.laid = laidOut(this.graph, this.width, this.height);
    const most = Math.max(...this.graph.influence, 1e-12);
    this.level = Uint8Array.from(this.graph.influence, (each) => Math.min(LEVELS - 1, Math.floor(LEVELS * (each / most) ** 0.35)));
    this.showAll();
  }

  draw() {
    if (!this.n) return;
    const began = performance.now();
    const ink = this.#begin(this.below);
    drawFrame(this, ink);
    this.#clip(ink);
    this.#behind(ink);
    this.#nodes(ink);
    ink.restore();
    nameGoals(this, ink);
    performance.measure("graph", { start: began });
    this.over();
  }

  /** What is marked with its edges, and the pins. */
  over() {
    if (!this.n) return;
    const began = performance.now();
    const ink = this.#begin(this.above);
    this.#clip(ink);
    if (this.marked !== null) this.#own(ink, this.marked);
    for (const [i, group] of this.pins) this.#ring(ink, i, group ? this.css.own : this.css.ink, 2);
    if (this.marked !== null) this.#ring(ink, this.marked, this.css.accent, 2.5);
    ink.restore();
    if (this.marked !== null) this.#words(ink, this.marked);
    performance.measure("graph-over", { start: began });
  }

  #begin(canvas) {
    const ink = canvas.getContext("2d");
    ink.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ink.clearRect(0, 0, this.box.clientWidth, this.box.clientHeight);
    return ink;
  }

  #clip(ink) {
    ink.save();
    ink.beginPath();
    ink.rect(MARGIN.left, MARGIN.top, this.width, this.height);
    ink.clip();
    ink.translate(MARGIN.left, MARGIN.top);
  }

  spot(i) {
    return [this.across(this.laid.x[i]), this.down(this.laid.y[i])];
  }

  across(x) {
    return (x - this.view.x) * this.view.zoom;
  }

  down(y) {
    return (y - this.view.y) * this.view.zoom;
  }

  #radius(i) {
    return Math.max(1.2, this.laid.size[i] * Math.min(this.view.zoom, 2.2));
  }

  isKept(i) {
    return this.kept?.[i] !== 0;
  }

  /** The edges along which most flows, pale. */
  #behind(ink) {
    const { from, to, weight, flow } = this.graph;
    const most = flow[0] || 1;
    for (let e = 0, left = BEHIND; e < flow.length && left; e += 1) {
      if (!this.isKept(from[e]) || !this.isKept(to[e])) continue;
      left -= 1;
      const share = Math.sqrt(flow[e] / most);
      ink.globalAlpha = 0.08 + 0.3 * share;
      this.#edge(ink, e, 0.6 + 2.2 * share, weight[e] < 0);
    }
    ink.globalAlpha = 1;
    ink.setLineDash([]);
  }

  #edge(ink, e, wide, negative) {
    const [[ax, ay], [bx, by]] = [this.spot(this.graph.from[e]), this.spot(this.graph.to[e])];
    const middle = (ay + by) / 2;
    ink.strokeStyle = negative ? this.css.minus : this.css.plus;
    ink.lineWidth = wide;
    ink.setLineDash(negative ? [5, 4] : []);
    ink.beginPath();
    ink.moveTo(ax, ay);
    ink.bezierCurveTo(ax, middle, bx, middle, bx, by);
    ink.stroke();
  }

  /** One path for each shape and level. */
  #nodes(ink) {
    const paths = new Map();
    for (let i = 0; i < this.n; i += 1) {
      if (!this.isKept(i)) continue;
      const [x, y] = this.spot(i);
      if (x < -20 || y < -20 || x > this.width + 20 || y > this.height + 20) continue;
      const shape = this.graph.shape[i];
      const key = shape * LEVELS + this.level[i];
      let path = paths.get(key);
      if (path === undefined) paths.set(key, (path = new Path2D()));
      outline(path, shape, x, y, this.#radius(i));
    }
    // What has most influence lies above.
    for (const [key, path] of [...paths].sort(([a], [b]) => (a % LEVELS) - (b % LEVELS))) painted(this, ink, path, Math.floor(key / LEVELS), key % LEVELS);
  }

  /** Edges of one node, in and out, the widest the largest weight of its side; the others pale. */
  #own(ink, node) {
    const { weight, into, out, from, to, shape } = this.graph;
    ink.fillStyle = this.css.paper;
    ink.globalAlpha = 0.45;
    ink.fillRect(0, 0, this.width, this.height);
    ink.globalAlpha = 1;
    const ends = new Set([node]);
    const size = (e) => Math.abs(weight[e]);
    for (const [side, other] of [[into(node), from], [out(node), to]]) {
      const edges = [...side].filter((e) => this.isKept(other[e])).sort((a, b) => size(b) - size(a)).slice(0, OWN);
      const most = edges.length ? size(edges[0]) || 1 : 1;
      for (const e of edges.reverse()) {
        const share = size(e) / most;
        ink.globalAlpha = 0.35 + 0.6 * share;
        this.#edge(ink, e, 0.7 + 4.3 * share, weight[e] < 0);
        ends.add(other[e]);
      }
    }
    ink.globalAlpha = 1;
    ink.setLineDash([]);
    for (const i of ends) {
      const path = new Path2D();
      outline(path, shape[i], ...this.spot(i), this.#radius(i));
      painted(this, ink, path, shape[i], this.level[i]);
    }
  }

  #ring(ink, i, css, wide) {
    if (!this.isKept(i)) return;
    ink.beginPath();
    ink.arc(...this.spot(i), this.#radius(i) + 3.5, 0, 2 * Math.PI);
    ink.strokeStyle = css;
    ink.lineWidth = wide;
    ink.stroke();
  }

  /** A label beside what is marked. */
  #words(ink, i) {
    const words = shown(this.graph.label[i]).slice(0, 70);
    ink.font = "600 12.5px system-ui, sans-serif";
    const wide = Math.min(ink.measureText(words).width + 14, this.box.clientWidth - 8);
    const [x, y] = this.spot(i);
    if (x < 0 || y < 0 || x > this.width || y > this.height) return;
    const left = Math.max(4, Math.min(MARGIN.left + x + 12, this.box.clientWidth - wide - 4));
    const below = y < 40;
    const top = MARGIN.top + y + (below ? 14 : -34);
    ink.fillStyle = this.css.paper;
    ink.strokeStyle = this.css.accent;
    ink.lineWidth = 1;
    ink.beginPath();
    ink.roundRect(left, top, wide, 22, 4);
    ink.fill();
    ink.stroke();
    ink.fillStyle = this.css.ink;
    ink.textAlign = "left";
    ink.fillText(words, left + 7, top + 15, wide - 14);
  }

  /** Label, place, value and influence of a node, in one line. */
  says(i) {
    const [kind, position, value] = ["kind", "position", "value"].map((name) => this.graph[name][i]);
    const parts = [shown(this.graph.label[i]).slice(0, 200), kind];
    if (position >= 0) parts.push(`token ${position} “${shown(this.graph.tokens[position] ?? "").slice(0, 40).trim()}”`);
    const { layer, sites } = this.graph;
    if (this.graph.shape[i] < 2) parts.push(sites[layer[i]] ?? `${this.graph.branch[i] === "attention" ? "attention of " : ""}layer ${layer[i]}`);
    if (sites.length) parts.push(`${kind === "logit" ? "difference" : "effect"} ${signed(value)}`);
    else if (kind === "feature") parts.push(`activation ${number(value)}`);
    else if (kind === "logit") parts.push(`probability ${number(value)}`);
    return [...parts, `influence ${percent(this.graph.influence[i])}`].join(" · ");
  }

  mark(i) {
    this.marked = i;
    this.above.classList.toggle("on-node", i !== null);
    if (i !== null) this.box.dataset.marked = this.spot(i).map(Math.round).join(" ");
    this.over();
  }

  nearest(x, y) {
    let [best, close] = [REACH * REACH, null];
    for (let i = 0; i < this.n; i += 1) {
      if (!this.isKept(i)) continue;
      const [a, b] = this.spot(i);
      const distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < best) [best, close] = [distance, i];
    }
    return close;
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const zoom = Math.max(1, Math.min(24, this.view.zoom * factor));
    this.view.x += x / this.view.zoom - x / zoom;
    this.view.y += y / this.view.zoom - y / zoom;
    this.view.zoom = zoom;
    this.#within();
  }

  /** By shares of what is seen. */
  pan(right, up) {
    this.view.x += (right * this.width) / this.view.zoom;
    this.view.y -= (up * this.height) / this.view.zoom;
    this.#within();
  }

  #within() {
    const { view } = this;
    view.x = Math.max(0, Math.min(view.x, this.width - this.width / view.zoom));
    view.y = Math.max(0, Math.min(view.y, this.height - this.height / view.zoom));
    this.draw();
  }

  showAll() {
    this.view = { x: 0, y: 0, zoom: 1 };
    this.draw();
  }

  /** Moves what is seen so that the node is in it. */
  reveal(i) {
    const [x, y] = this.spot(i);
    if (x >= 0 && y >= 0 && x <= this.width && y <= this.height) return;
    this.view.x = this.laid.x[i] - this.width / 2 / this.view.zoom;
    this.view.y = this.laid.y[i] - this.height / 2 / this.view.zoom;
    this.#within();
  }
}
