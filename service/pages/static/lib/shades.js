// Colours for pixels, out of the variables of base.css, so that both themes have theirs.
import { colour } from "./colour.js";
import { draw } from "./state.js";

const LEVELS = 256;
/** Level of what is not known. */
export const UNKNOWN = 0;

/** What `Scatter.paint` takes, by the theme that is shown. */
export function shades() {
  const [own, paper, ink, quiet, line, plus, other] = ["own", "paper", "ink", "quiet", "line", "plus", "other"].map(colour);
  const palette = new Uint32Array(LEVELS + 3);
  palette[UNKNOWN] = packed(between(paper, quiet, 0.45));
  for (let level = 1; level < LEVELS; level += 1) palette[level] = packed(ramp(level / (LEVELS - 1), { paper, own, ink }));
  palette.set([packed(plus), packed(other), packed(line)], LEVELS);
  const css = (each) => `rgb(${each.join(" ")})`;
  return { palette, words: { ink: css(ink), quiet: css(quiet), line: css(line) } };
}

/** The palette of `count` kinds: from level 1 on the colours --kind-1, --kind-2, ... of the page; that of the
 * kind `quiet`, if there is one, is pale. */
export function kindPalette(palette, count, quiet = -1) {
  const own = palette.slice();
  for (let kind = 1; kind <= count; kind += 1) own[kind] = kind === quiet + 1 ? own[UNKNOWN] : packed(colour(`kind-${kind}`));
  return own;
}

/** From pale to strong, through the colour of estimates. */
function ramp(share, { paper, own, ink }) {
  return share < 0.6 ? between(between(paper, own, 0.25), own, share / 0.6) : between(own, ink, ((share - 0.6) / 0.4) * 0.7);
}

/** Levels 1 to 255 for `values` by where they lie between the least and the largest of them on the scale. */
export function levelsOf(values, to) {
  const levels = new Uint8Array(values.length);
  let [low, high] = [Infinity, -Infinity];
  const placed = Float32Array.from(values, to);
  for (const each of placed) {
    if (Number.isFinite(each)) [low, high] = [Math.min(low, each), Math.max(high, each)];
  }
  for (let i = 0; i < levels.length; i += 1) {
    if (Number.isFinite(placed[i])) levels[i] = 1 + Math.round((254 * (placed[i] - low)) / (high - low || 1));
  }
  return { levels, low, high };
}

/** The palette as a strip, from its least level to its largest. */
export function strip(palette, steps = 24) {
  const svg = draw("svg", { viewBox: `0 0 ${steps * 5} 10`, width: steps * 5, height: 10, "aria-hidden": "true" });
  for (let step = 0; step < steps; step += 1) {
    const level = 1 + Math.round((254 * step) / (steps - 1));
    svg.append(draw("rect", { x: step * 5, y: 0, width: 5, height: 10, fill: unpacked(palette[level]) }));
  }
  return svg;
}

/** A square of one of the palette's colours. */
export function square(value) {
  return draw("svg", { viewBox: "0 0 10 10", width: 10, height: 10, "aria-hidden": "true" }, draw("rect", { width: 10, height: 10, fill: unpacked(value) }));
}

const between = (from, to, share) => from.map((each, i) => Math.round(each + (to[i] - each) * share));
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const unpacked = (value) => `rgb(${value & 255} ${(value >> 8) & 255} ${(value >> 16) & 255})`;
