// Scales of axes: where a value lies, and which values are written beside the axis.
import { number } from "./format.js";

/** `to` is NaN for what cannot be drawn on the scale. */
export const SCALES = {
  // Places in a layout: no figure of theirs means anything.
  layout: { to: (value) => value, from: (place) => place },
  linear: { to: (value) => value, from: (place) => place },
  log: { to: (value) => (value > 0 ? Math.log10(value) : NaN), from: (place) => 10 ** place },
  // Linear around 0, logarithmic far from it, on both sides.
  symlog: {
    to: (value) => Math.sign(value) * Math.log10(1 + Math.abs(value)),
    from: (place) => Math.sign(place) * (10 ** Math.abs(place) - 1),
  },
};

/** [place, words] of what is written along an axis that shows the places `low` to `high`. */
export function ticks(scale, low, high, most = 7) {
  if (scale === "layout") return [];
  if (scale === "linear") return even(low, high, most).map((value) => [value, number(value)]);
  const { to, from } = SCALES[scale];
  const inside = candidates(scale, from(low), from(high)).filter((value) => to(value) >= low && to(value) <= high);
  // Where no or one power of ten is in sight, plain steps between the values that are.
  const values = inside.length >= 2 ? inside : even(from(low), from(high), most);
  const every = Math.ceil(values.length / most);
  return values
    .filter((_, place) => place % every === 0)
    .map((value) => [to(value), number(value)])
    .filter(([place]) => place >= low && place <= high);
}

function candidates(scale, low, high) {
  const values = [];
  const from = scale === "log" ? Math.floor(Math.log10(low)) : 0;
  const until = Math.ceil(Math.log10(Math.max(Math.abs(low), Math.abs(high), 1e-9)));
  const factors = scale === "log" && Math.log10(high / low) <= 2.2 ? [1, 2, 5] : [1];
  for (let power = from; power <= until; power += 1) {
    for (const factor of factors) values.push(factor * 10 ** power);
  }
  if (scale === "log") return values;
  return [...values.map((value) => -value).reverse(), 0, ...values];
}

function even(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const values = [];
  for (let place = Math.ceil(low / step); place * step <= high; place += 1) {
    values.push(Number((place * step).toPrecision(12)));
  }
  return values;
}

/** Round values, evenly spaced, the first at most `low`, the last at least `high`; monosemy/ticks.py does the same. */
export function covering(low, high, most = 4) {
  let rough = (high - low) / most;
  if (!(rough > 0) || !Number.isFinite(rough)) rough = Math.max(Math.abs(low), 1) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough * (1 - 1e-9));
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, place) => Number(((first + place) * step).toPrecision(12)));
}

/** The same of 1, 2 and 5 times powers of ten, or of these alone; `low` is above 0. */
export function coveringLog(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const known = [];
  for (let power = first; power <= last; power += 1) {
    for (const factor of last - first <= 2 ? [1, 2, 5] : [1]) known.push(Number((factor * 10 ** power).toPrecision(12)));
  }
  const start = known.findLastIndex((each) => each <= low * (1 + 1e-9));
  const end = known.findIndex((each) => each >= high * (1 - 1e-9));
  return known.slice(start, Math.max(end, start + 1) + 1);
}
