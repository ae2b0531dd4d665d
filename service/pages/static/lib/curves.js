// Curves that can be read off and zoomed into: what monosemy/plots.py draws, made live in its place.
import { number } from "./format.js";
import { covering, coveringLog } from "./scales.js";
import { draw } from "./state.js";

const [WIDTH, HEIGHT] = [460, 200];
const [LEFT, RIGHT, TOP, BASE] = [56, WIDTH - 8, 8, HEIGHT - 22];
/** A line at the lowest value is not to lie on the axis. */
const LOWEST = BASE - 5;
/** Points of a series that are drawn at most. */
export const MOST = 2000;

/** Of each of so many stretches of `points` the lowest and the highest: no peak is lost. */
export function thinned(points, most = MOST) {
  if (points.length <= most) return points;
  const size = Math.ceil(points.length / Math.floor(most / 2));
  const kept = [];
  for (let start = 0; start < points.length; start += size) {
    let [low, high] = [start, start];
    for (let i = start; i < Math.min(start + size, points.length); i += 1) {
      if (points[i][1] < points[low][1]) low = i;
      if (points[i][1] > points[high][1]) high = i;
    }
    for (const i of [...new Set([low, high])].sort((a, b) => a - b)) kept.push(points[i]);
  }
  return kept;
}

/**
 * Lines over a common axis in place of what `box` has.
 *
 * `series`: [{css, name, points: [[x, y], ...]}, ...], ascending in x.  `onCross(x)` and
 * `onZoom(range)` tell what was pointed at and zoomed into, so that charts can follow one another
 * by `cross(x)` and `zoom(range)`; null ends either.
 */
export class Curves {
  constructor(box, { series, label, log = false, floor = null, unit = "", readout = null, onCross, onZoom }) {
    const drawable = ([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (y > 0 || !log);
    this.series = series
      .map((each) => ({ ...each, points: thinned(each.points.filter(drawable)) }))
      .filter((each) => each.points.length > 0);
    Object.assign(this, { log, floor, unit, readout, onCross, onZoom, range: null, at: null, from: null });
    this.says = readout?.textContent ?? "";
    this.svg = draw("svg", {
      class: "curves live-curves", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT,
      role: "img", "aria-label": label, tabindex: "0",
    });
    this.lines = draw("g");
    this.over = draw("g");
    this.svg.append(this.lines, this.over);
    box.replaceChildren(this.svg);
    if (this.series.length === 0) return;
    this.#listen();
    this.#render();
  }

  /** Shows the figures at `x`, or none. */
  cross(x) {
    this.at = x;
    this.#point();
  }

  /** Shows `range` ([from, to] in x) alone, or everything. */
  zoom(range) {
    this.range = range;
    this.#render();
  }

  #listen() {
    const svg = this.svg;
    svg.addEventListener("pointermove", (event) => {
      this.#tell(this.#xOf(event));
    });
    svg.addEventListener("pointerleave", () => this.from === null && this.#tell(null));
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.from = this.#xOf(event);
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointerup", (event) => {
      const [a, b] = [this.from, this.#xOf(event)].sort((x, y) => x - y);
      this.from = null;
      const [left, right] = this.#span();
      if (b - a > (right - left) / 50) this.#ask([a, b]);
      else this.#point();
    });
    svg.addEventListener("dblclick", () => this.#ask(null));
    svg.addEventListener("keydown", (event) => this.#key(event));
    svg.addEventListener("blur", () => this.#tell(null));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const points = this.#visible(this.series[0].points);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step !== undefined) {
      const here = this.at === null ? (step > 0 ? -1 : points.length) : nearest(points, this.at);
      const next = here + step * (event.shiftKey ? 10 : 1);
      this.#tell(points[Math.max(0, Math.min(points.length - 1, next))][0]);
    } else if (event.key === "+" || event.key === "-") {
      const [left, right] = this.#span();
      const middle = this.at ?? (left + right) / 2;
      const half = ((right - left) / 2) * (event.key === "+" ? 0.5 : 2);
      const [first, last] = this.#whole();
      const range = [Math.max(first, middle - half), Math.min(last, middle + half)];
      this.#ask(range[0] <= first && range[1] >= last ? null : range);
    } else if (event.key === "Escape") this.#ask(null);
    else return;
    event.preventDefault();
  }

  #tell(x) {
    if (this.onCross) this.onCross(x);
    else this.cross(x);
  }

  #ask(range) {
    if (this.onZoom) this.onZoom(range);
    else this.zoom(range);
  }

  #whole() {
    const ends = this.series.flatMap(({ points }) => [points[0][0], points.at(-1)[0]]);
    return [Math.min(...ends), Math.max(...ends)];
  }

  #span() {
    return this.range ?? this.#whole();
  }

  #visible(points) {
    const [left, right] = this.#span();
    const within = points.filter(([x]) => x >= left && x <= right);
    return within.length > 0 ? within : points;
  }

  #xOf(event) {
    const box = this.svg.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * WIDTH;
    const [left, right] = this.#span();
    const share = Math.max(0, Math.min(1, (across - LEFT) / (RIGHT - LEFT)));
    return left + share * (right - left);
  }

  #place(x, y) {
    const [left, right] = this.#span();
    const [low, high] = this.heights;
    const scaled = this.log ? Math.log10(y) : y;
    return [
      LEFT + ((RIGHT - LEFT) * (x - left)) / (right - left || 1),
      LOWEST - ((LOWEST - TOP) * (scaled - low)) / (high - low),
    ];
  }

  #render() {
    if (this.series.length === 0) return;
    const [left, right] = this.#span();
    const scale = (y) => (this.log ? Math.log10(y) : y);
    let [low, high] = [Infinity, -Infinity];
    for (const { points } of this.series) {
      for (const [, y] of this.#visible(points)) {
        low = Math.min(low, scale(y));
        high = Math.max(high, scale(y));
      }
    }
    if (this.floor !== null && !this.log && this.range === null) low = Math.min(low, this.floor);
    const ticks = this.log ? coveringLog(10 ** low, 10 ** high) : covering(low, high);
    this.heights = [scale(ticks[0]), scale(ticks.at(-1))];
    const parts = [
      draw("line", { class: "axis", x1: LEFT, y1: BASE, x2: RIGHT, y2: BASE }),
      draw("line", { class: "axis", x1: LEFT, y1: BASE, x2: LEFT, y2: TOP }),
    ];
    for (const value of ticks) {
      const y = this.#place(left, value)[1];
      parts.push(draw("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y, y2: y }));
      parts.push(draw("text", { class: "tick end", x: LEFT - 4, y: y + 4 }, number(value)));
    }
    parts.push(draw("text", { class: "tick start", x: LEFT, y: HEIGHT - 6 }, number(Math.round(left))));
    const end = `${number(Math.round(right))} ${this.unit}`.trim();
    parts.push(draw("text", { class: "tick end", x: RIGHT, y: HEIGHT - 6 }, end));
    for (const { css, name, points } of this.series) {
      const line = this.#visible(points).map(([x, y]) => this.#place(x, y).map((each) => each.toFixed(1)).join(" "));
      parts.push(draw("path", { class: `line ${css}`, d: `M${line.join("L")}` }, draw("title", {}, name)));
    }
    this.lines.replaceChildren(...parts);
    this.#point();
  }

  /** The crosshair, its figures in words, and what is being selected. */
  #point() {
    const parts = [];
    if (this.from !== null && this.at !== null) {
      const ends = [this.from, this.at].map((x) => this.#place(x, this.log ? 1 : 0)[0]).sort((a, b) => a - b);
      parts.push(draw("rect", { class: "selected", x: ends[0], y: TOP, width: ends[1] - ends[0], height: BASE - TOP }));
    }
    const words = [];
    if (this.at !== null) {
      const found = this.series.map((each) => ({ ...each, point: each.points[nearest(each.points, this.at)] }));
      const [x] = found[0].point;
      const across = this.#place(x, found[0].point[1])[0];
      if (across >= LEFT - 1 && across <= RIGHT + 1) {
        parts.push(draw("line", { class: "cross", x1: across, x2: across, y1: TOP, y2: BASE }));
        for (const { css, point } of found) {
          const [cx, cy] = this.#place(...point);
          parts.push(draw("circle", { class: `mark ${css}`, cx, cy, r: 3 }));
        }
      }
      words.push(`${number(Math.round(x))} ${this.unit}`.trim());
      words.push(found.map(({ name, point }) => `${name} ${number(point[1])}`).join(", "));
    }
    this.over.replaceChildren(...parts);
    if (this.readout) this.readout.textContent = words.length > 0 ? words.join(": ") : this.says;
  }
}

/** Place of the point nearest to `x`; `points` ascend in x. */
function nearest(points, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle;
    else high = middle;
  }
  return x - points[low][0] <= points[high][0] - x ? low : high;
}
