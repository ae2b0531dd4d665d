// /saes/{sae}/training: all readings, a crosshair that goes through all charts, zoom by dragging.
import * as api from "../lib/api.js";
import { Curves, MOST } from "../lib/curves.js";
import { given } from "../lib/state.js";

const { run, place, charts, baseline } = given("data");

/** What lies at `path` ("terms.auxk") of a reading. */
const reach = (reading, path) => path.split(".").reduce((part, name) => part?.[name], reading);

const pointsOf = (readings, path) =>
  readings.map((each) => [each.tokens, reach(each, path)]).filter(([, y]) => typeof y === "number");

async function enliven() {
  const found = await api.runsShowTraining(run, { query: { place, points: MOST } });
  const readings = found.saes[0]?.readings ?? [];
  if (readings.length === 0) return;
  const live = [];
  charts.forEach((chart, i) => {
    const figure = document.querySelector(`[data-chart="${i}"]`);
    const series = [{ css: "own", name: "SAE", points: pointsOf(readings, chart.reading) }];
    if (chart.twin) {
      series.push({ css: "null", name: "frozen-decoder baseline", points: pointsOf(readings, `${baseline}.${chart.reading}`) });
    }
    const readout = figure.querySelector(".readout");
    live.push(
      new Curves(figure.querySelector(".drawing"), {
        series, label: readout.textContent, log: chart.log, floor: 0, unit: "tokens", readout,
        onCross: (x) => live.forEach((each) => each.cross(x)),
        onZoom: (range) => live.forEach((each) => each.zoom(range)),
      }),
    );
  });
  document.getElementById("hint").hidden = false;
}

// What the server drew stays where there is no answer.
if (run !== null && charts.length > 0) enliven().catch(() => {});
