// The curves of a training, drawn anew as readings come: as monosemy/plots.py draws them.
import { number } from "../lib/format.js";
import { draw, make } from "../lib/state.js";

const WIDTH = 460;
const HEIGHT = 200;
const [LEFT, RIGHT, TOP, BASE] = [48, WIDTH - 8, 8, HEIGHT - 22];
const CURVES = [
  ["fvu", "FVU, share of variance unexplained", 1, null],
  ["l0", "L0, active latents per token", 1, 0],
  ["dead_share", "Dead latents, %", 100, 0],
];

/** Draws those for which there are readings into `box`. */
export function drawCurves(box, readings) {
  for (const [name, title, unit, floor] of CURVES) {
    const points = (of) =>
      readings
        .map((reading) => [reading.tokens, (of(reading)?.[name] ?? NaN) * unit])
        .filter((point) => point.every(Number.isFinite));
    const own = points((reading) => reading);
    const twin = points((reading) => reading.frozen_decoder_baseline);
    if (!own.length) continue;
    let figure = box.querySelector(`[data-curve="${name}"]`);
    if (figure === null) {
      figure = make("figure", { "data-curve": name }, make("figcaption", {}, title));
      box.append(figure);
      document.querySelector("[data-no-curves]")?.remove();
      document.querySelector("[data-legend]").hidden = false;
    }
    figure.querySelector("svg")?.remove();
    figure.append(chart(title, floor, [["own", "SAE", own], ["null", "frozen random decoder", twin]]));
  }
}

function chart(title, floor, series) {
  const every = series.flatMap(([, , points]) => points);
  const xs = every.map(([x]) => x);
  const ys = every.map(([, y]) => y);
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (floor !== null) y0 = Math.min(floor, y0);
  if (y1 - y0 <= 1e-12) [y0, y1] = floor === null ? [y0 - 0.5, y1 + 0.5] : [y0, y0 + 1];
  const svg = draw("svg", { class: "curves", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": title });
  svg.append(
    draw("line", { class: "axis", x1: LEFT, y1: BASE, x2: RIGHT, y2: BASE }),
    draw("line", { class: "axis", x1: LEFT, y1: BASE, x2: LEFT, y2: TOP }),
  );
  for (const share of [0, 0.5, 1]) {
    const y = (BASE - (BASE - TOP) * share).toFixed(1);
    svg.append(
      draw("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y, y2: y }),
      draw("text", { class: "tick end", x: LEFT - 4, y: Number(y) + 4 }, number(y0 + (y1 - y0) * share)),
    );
  }
  svg.append(
    draw("text", { class: "tick start", x: LEFT, y: HEIGHT - 6 }, number(x0)),
    draw("text", { class: "tick end", x: RIGHT, y: HEIGHT - 6 }, `${number(x1)} tokens`),
  );
  for (const [css, name, points] of series) {
    if (!points.length) continue;
    const at = ([x, y]) =>
      `${(LEFT + ((RIGHT - LEFT) * (x - x0)) / (x1 - x0 || 1)).toFixed(1)} ${(BASE - ((BASE - TOP) * (y - y0)) / (y1 - y0)).toFixed(1)}`;
    svg.append(draw("path", { class: `line ${css}`, d: `M${points.map(at).join("L")}` }, draw("title", {}, name)));
  }
  return svg;
}
