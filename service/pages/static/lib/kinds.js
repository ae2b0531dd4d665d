// Kinds of features on a map: a colour and a name for each, and a button that lights up that kind alone.
import { count } from "./format.js";
import { square, UNKNOWN } from "./shades.js";
import { make } from "./state.js";

/** Levels (1 + the kind, `UNKNOWN` without one) for kinds from 0 on, how many features each has, and the order in
 * which they are drawn: the rarest last. */
export function kindsOf(values, names) {
  const levels = new Uint8Array(values.length);
  const counts = new Array(names.length).fill(0);
  let unknown = 0;
  for (let i = 0; i < levels.length; i += 1) {
    if (!(values[i] >= 0 && values[i] < names.length)) unknown += 1;
    else {
      levels[i] = 1 + values[i];
      counts[values[i]] += 1;
    }
  }
  return { levels, names, counts, unknown, order: rarestLast(levels, [unknown, ...counts]) };
}

function rarestLast(levels, counts) {
  const next = new Array(counts.length);
  let begin = 0;
  for (const level of [...counts.keys()].sort((a, b) => counts[b] - counts[a])) {
    next[level] = begin;
    begin += counts[level];
  }
  const order = new Uint32Array(levels.length);
  for (let i = 0; i < levels.length; i += 1) {
    order[next[levels[i]]] = i;
    next[levels[i]] += 1;
  }
  return order;
}

/** 1 for the features of this kind that `matching` has too, if it is given. */
export function ofKind(levels, kind, matching) {
  return Uint8Array.from(levels, (level, i) => (level === 1 + kind && matching?.[i] !== 0 ? 1 : 0));
}

/** Buttons of the kinds that there are; `chosen(kind)` where one is pressed. */
export function kindButtons({ names, counts, unknown }, palette, only, chosen) {
  const buttons = names.map((name, kind) => (counts[kind] === 0 ? null : make("button", {
    type: "button", class: "plain kind", "aria-pressed": String(kind === only), title: `light up: ${name}`,
    "data-kind": kind, onclick: () => chosen(kind),
  }, square(palette[1 + kind]), ` ${name} `, make("span", { class: "n" }, count(counts[kind])))));
  const none = unknown ? make("span", {}, square(palette[UNKNOWN]), ` none ${count(unknown)}`) : null;
  return [...buttons, none].filter((each) => each !== null);
}
