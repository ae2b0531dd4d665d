// The curves of a training, drawn anew as readings come.
import { Curves } from "../lib/curves.js";
import { make } from "../lib/state.js";

const CURVES = [
  ["fvu", "FVU, share of variance unexplained", 1, null],
  ["l0", "L0, active latents per token", 1, 0],
  ["dead_share", "Dead latents, %", 100, 0],
];
const drawn = new Map();

/** Draws those for which there are readings into `box`; what somebody reads off stays as it is. */
export function drawCurves(box, readings) {
  for (const [name, title, unit, floor] of CURVES) {
    const points = (of) =>
      readings
        .map((reading) => [reading.tokens, (of(reading)?.[name] ?? NaN) * unit])
        .filter((point) => point.every(Number.isFinite));
    const series = [{ css: "own", name: "SAE", points: points((reading) => reading) }];
    const twin = points((reading) => reading.frozen_decoder_baseline);
    if (twin.length) series.push({ css: "null", name: "frozen random decoder", points: twin });
    const old = drawn.get(name);
    if (!series[0].points.length || (old && (old.at !== null || old.range !== null))) continue;
    const figure = box.querySelector(`[data-curve="${name}"]`) ?? added(box, name, title);
    const readout = figure.querySelector(".readout");
    const drawing = figure.querySelector(".drawing");
    const focused = drawing.contains(document.activeElement);
    drawn.set(name, new Curves(drawing, { series, label: title, floor, unit: "tokens", readout }));
    if (focused) drawing.firstElementChild.focus();
  }
}

function added(box, name, title) {
  const parts = [make("figcaption", {}, title), make("div", { class: "drawing" }), make("p", { class: "readout quiet" })];
  const figure = make("figure", { "data-curve": name }, ...parts);
  box.append(figure);
  document.querySelector("[data-no-curves]")?.remove();
  document.querySelector("[data-legend]").hidden = false;
  return figure;
}
