// A plot of very many points.  They are written as pixels into an ImageData; what moves with the pointer
// (axes, lines, the area that is chosen) is drawn on a second canvas above.
import { SCALES, ticks } from "./scales.js";
import { followPointer } from "./scatter_pointer.js";
import { make } from "./state.js";

const MARGIN = { left: 56, right: 10, top: 10, bottom: 40 };
const REACH = 12;
/** How near a point the pointer has to be, in pixels of CSS. */

export class Scatter {
  /** `box` has a size of its own.  `hovered(index or null)`, `chosen(index or null)`, `enclosed(indices)`. */
  constructor(box, { hovered, chosen, enclosed }) {
    this.box = box;
    this.tell = { hovered, chosen, enclosed };
    this.points = make("canvas", { class: "points", "aria-hidden": true });
    this.above = make("canvas", { class: "above", "aria-hidden": true });
    box.append(this.points, this.above);
    this.lasso = null;
    this.choosing = false;
    this.marked = null;
    this.ends = [];
    this.picked = new Uint8Array(0);
    this.n = 0;
    followPointer(this, MARGIN);
    new ResizeObserver(() => this.resized()).observe(box);
  }

  /**
   * @param {{x: Float32Array, y: Float32Array, scales: [string, string], names: [string, string],
   *   levels: Uint8Array, lit: Uint8Array | null, order?: Uint32Array}} data  `levels` are places in
   *   the palette; what comes last in `order` lies above the rest.
   */
  set({ x, y, scales, names, levels, lit, order = null }) {
    const same = this.n === x.length && this.scales?.join() === scales.join() && this.names?.join() === names.join();
    Object.assign(this, { n: x.length, scales, names, levels, lit, order });
    this.u = places(x, scales[0]);
    this.v = places(y, scales[1]);
    this.drawn = 0;
    const [low, high] = [[Infinity, Infinity], [-Infinity, -Infinity]];
    for (let i = 0; i < this.n; i += 1) {
      const [u, v] = [this.u[i], this.v[i]];
      if (!(Number.isFinite(u) && Number.isFinite(v))) {
        this.u[i] = NaN;
        continue;
      }
      this.drawn += 1;
      if (u < low[0]) low[0] = u;
      if (u > high[0]) high[0] = u;
      if (v < low[1]) low[1] = v;
      if (v > high[1]) high[1] = v;
    }
    if (this.picked.length !== this.n) this.picked = new Uint8Array(this.n);
    const even = scales.every((each) => each === "layout");
    this.whole = this.drawn ? { x: wider(low[0], high[0]), y: wider(low[1], high[1]) } : { x: [0, 1], y: [0, 1] };
    if (even) this.whole = alike(this.whole, this.width / this.height || 1);
    if (!same) this.view = this.whole;
    this.draw();
  }

  /** `palette`: 256 colours by level, then that of lit points, of chosen ones, and of the rest while some
   * are lit, each 0xAABBGGRR; `words`: the colours `ink`, `quiet` and `line` of what is above. */
  paint({ palette, words }) {
    Object.assign(this, { palette, words });
    this.draw();
  }

  resized() {
    this.ratio = window.devicePixelRatio || 1;
    this.width = Math.max(this.box.clientWidth - MARGIN.left - MARGIN.right, 50);
    this.height = Math.max(this.box.clientHeight - MARGIN.top - MARGIN.bottom, 50);
    const dots = [Math.round(this.width * this.ratio), Math.round(this.height * this.ratio)];
    [this.points.width, this.points.height] = dots;
    Object.assign(this.points.style, { left: `${MARGIN.left}px`, top: `${MARGIN.top}px`, width: `${this.width}px`, height: `${this.height}px` });
    this.above.width = Math.round(this.box.clientWidth * this.ratio);
    this.above.height = Math.round(this.box.clientHeight * this.ratio);
    this.image = new ImageData(...dots);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.draw();
  }

  draw() {
    if (!this.n || !this.palette || !this.image) return;
    const began = performance.now();
    this.pixels.fill(0);
    const passes = this.lit ? [0, 1] : [0];
    for (const pass of passes) this.write(pass === 1);
    this.points.getContext("2d").putImageData(this.image, 0, 0);
    performance.measure("scatter", { start: began });
    this.over();
  }

  /** `lit`: only those that are, larger and above the others; chosen ones are larger too. */
  write(lit) {
    const { u, v, levels, palette, pixels, picked, order } = this;
    const [columns, rows] = [this.image.width, this.image.height];
    const { x, y } = this.view;
    const [across, down] = [columns / (x[1] - x[0]), rows / (y[1] - y[0])];
    const zoom = (this.whole.x[1] - this.whole.x[0]) / (x[1] - x[0]);
    const plain = (this.drawn > 20000 ? 2 : this.drawn > 2000 ? 3 : 5) * this.ratio * Math.min(Math.sqrt(zoom), 3);
    const large = Math.round(Math.max(plain * 1.6, 4 * this.ratio));
    for (let place = 0; place < this.n; place += 1) {
      const i = order === null ? place : order[place];
      if (this.lit !== null && (this.lit[i] === 1) !== lit) continue;
      const size = lit || picked[i] ? large : Math.max(1, Math.round(plain));
      const half = size >> 1;
      const left = Math.round((u[i] - x[0]) * across) - half;
      const top = Math.round((y[1] - v[i]) * down) - half;
      if (!(left > -size && top > -size && left < columns && top < rows)) continue;
      const colour = picked[i] ? palette[257] : lit ? palette[256] : this.lit !== null ? palette[258] : palette[levels[i]];
      const [right, base] = [Math.min(left + size, columns), Math.min(top + size, rows)];
      const begin = Math.max(left, 0);
      for (let row = Math.max(top, 0); row < base; row += 1) {
        const line = row * columns;
        for (let column = begin; column < right; column += 1) pixels[line + column] = colour;
      }
    }
  }

  /** Axes, lines to neighbours, the lasso. */
  over() {
    const ink = this.above.getContext("2d");
    ink.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ink.clearRect(0, 0, this.box.clientWidth, this.box.clientHeight);
    const [left, top, right, base] = [MARGIN.left, MARGIN.top, MARGIN.left + this.width, MARGIN.top + this.height];
    ink.font = "11px system-ui, sans-serif";
    ink.strokeStyle = this.words.line;
    ink.fillStyle = this.words.quiet;
    ink.lineWidth = 1;
    ink.textAlign = "center";
    for (const [place, words] of ticks(this.scales[0], ...this.view.x, this.width / 90)) {
      const x = left + this.across(place);
      line(ink, x, base, x, base + 4);
      ink.fillText(words, x, base + 16);
    }
    ink.fillText(this.names[0], (left + right) / 2, base + 33);
    ink.textAlign = "right";
    for (const [place, words] of ticks(this.scales[1], ...this.view.y, this.height / 55)) {
      const y = top + this.down(place);
      line(ink, left - 4, y, left, y);
      ink.fillText(words, left - 7, y + 4);
    }
    ink.save();
    ink.translate(11, (top + base) / 2);
    ink.rotate(-Math.PI / 2);
    ink.textAlign = "center";
    ink.fillText(this.names[1], 0, 0);
    ink.restore();
    ink.strokeRect(left + 0.5, top + 0.5, this.width - 1, this.height - 1);
    ink.save();
    ink.beginPath();
    ink.rect(left, top, this.width, this.height);
    ink.clip();
    ink.translate(left, top);
    ink.strokeStyle = this.words.ink;
    if (this.marked !== null && !Number.isNaN(this.u[this.marked])) {
      const [x, y] = this.spot(this.marked);
      for (const end of this.ends) {
        if (end < this.n && !Number.isNaN(this.u[end])) line(ink, x, y, ...this.spot(end));
      }
      ink.lineWidth = 2;
      ring(ink, x, y, 7);
      ink.lineWidth = 1;
      for (const end of this.ends) if (end < this.n && !Number.isNaN(this.u[end])) ring(ink, ...this.spot(end), 4);
    }
    if (this.lasso?.length > 1) {
      ink.beginPath();
      this.lasso.forEach(([x, y], step) => (step ? ink.lineTo(x, y) : ink.moveTo(x, y)));
      ink.closePath();
      ink.setLineDash([4, 3]);
      ink.stroke();
    }
    ink.restore();
    const { x, y } = this.view;
    const [xs, ys] = this.scales.map((scale) => SCALES[scale].from);
    this.box.dataset.view = JSON.stringify({ x: x.map(xs), y: y.map(ys), plot: [left, top, this.width, this.height] });
  }

  across(u) {
    return ((u - this.view.x[0]) / (this.view.x[1] - this.view.x[0])) * this.width;
  }

  down(v) {
    return ((this.view.y[1] - v) / (this.view.y[1] - this.view.y[0])) * this.height;
  }

  spot(index) {
    return [this.across(this.u[index]), this.down(this.v[index])];
  }

  /** Marks a point, with lines to `ends`; null for none. */
  mark(index, ends = []) {
    this.marked = index;
    this.ends = ends;
    if (this.n && this.palette) this.over();
  }

  /** Chooses these points, in place of those that were. */
  pick(indices) {
    this.picked.fill(0);
    for (const index of indices) this.picked[index] = 1;
    this.draw();
  }

  inView() {
    return this.within((x, y) => x >= 0 && y >= 0 && x <= this.width && y <= this.height);
  }

  /** Tells which points an outline of the pointer has within. */
  enclose(outline) {
    this.tell.enclosed(this.within((x, y) => encloses(outline, x, y)));
  }

  within(test) {
    const found = [];
    for (let i = 0; i < this.n; i += 1) {
      if (!Number.isNaN(this.u[i]) && test(...this.spot(i))) found.push(i);
    }
    return found;
  }

  nearest(x, y) {
    let [best, found] = [REACH * REACH, null];
    for (let i = 0; i < this.n; i += 1) {
      const [a, b] = [this.across(this.u[i]) - x, this.down(this.v[i]) - y];
      const distance = a * a + b * b;
      if (distance < best || (distance === best && found === null)) [best, found] = [distance, i];
    }
    return found;
  }

  /** Closer by `factor`, around a place of the plot (its middle). */
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    this.view = { x: closer(this.view.x, x / this.width, factor), y: closer(this.view.y, 1 - y / this.height, factor) };
    this.draw();
  }

  /** By shares of what is seen. */
  pan(right, up) {
    const by = ([low, high], share) => [low + (high - low) * share, high + (high - low) * share];
    this.view = { x: by(this.view.x, right), y: by(this.view.y, up) };
    this.draw();
  }

  showAll() {
    this.view = this.whole;
    this.draw();
  }
}

function places(values, scale) {
  const { to } = SCALES[scale];
  const found = new Float32Array(values.length);
  for (let i = 0; i < values.length; i += 1) found[i] = to(values[i]);
  return found;
}

function wider(low, high) {
  const more = (high - low) * 0.04 || 0.5;
  return [low - more, high + more];
}

/** The same distance in both directions: the shorter one shows more. */
function alike({ x, y }, ratio) {
  const [across, up] = [x[1] - x[0], y[1] - y[0]];
  const grown = ([low, high], span) => [(low + high - span) / 2, (low + high + span) / 2];
  return across / up > ratio ? { x, y: grown(y, across / ratio) } : { x: grown(x, up * ratio), y };
}

function closer([low, high], share, factor) {
  const middle = low + (high - low) * share;
  return [middle - (middle - low) / factor, middle + (high - middle) / factor];
}

function line(ink, x1, y1, x2, y2) {
  ink.beginPath();
  ink.moveTo(x1, y1);
  ink.lineTo(x2, y2);
  ink.stroke();
}

function ring(ink, x, y, radius) {
  ink.beginPath();
  ink.arc(x, y, radius, 0, 2 * Math.PI);
  ink.stroke();
}

/** By the number of edges that a ray crosses. */
function encloses(outline, x, y) {
  let inside = false;
  for (let i = 0, j = outline.length - 1; i < outline.length; j = i, i += 1) {
    const [[ax, ay], [bx, by]] = [outline[i], outline[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
