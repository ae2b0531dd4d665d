// The feature that is looked at on a map: what it is, and lines to its nearest decoder directions.
import * as api from "./api.js";
import { density, fixed, interval, number } from "./format.js";
import { address } from "./http.js";
import { make } from "./state.js";

const REST_MS = 90;
/** The pointer rests so long before the server is asked. */

/** Shows in `place` what `plot` marks: what is chosen, or else what the pointer is at. */
export function looker(place, sae, plot) {
  const known = new Map();
  let [chosen, shown, timer] = [null, null, null];

  const path = (index) => `/saes/${encodeURIComponent(sae)}/features/${index}`;

  async function look(index) {
    if (index === shown) return;
    shown = index;
    plot.mark(index);
    if (index === null) return;
    if (!known.has(index)) known.set(index, api.featuresShow(sae, index));
    let feature;
    try {
      feature = await known.get(index);
    } catch (problem) {
      known.delete(index);
      if (shown === index) place.replaceChildren(make("p", { class: "error" }, problem.message));
      return;
    }
    if (shown !== index) return;
    plot.mark(index, feature.neighbours.cosine.map((each) => each.feature));
    place.replaceChildren(...about(feature, index));
  }

  function about(feature, index) {
    const parts = [
      make("h2", {}, make("a", { href: address(path(index)), "data-looked": true }, `Feature ${index}`)),
      make("p", {}, feature.heading.text),
      make("p", { class: "facts" }, fact("density", density(feature.density)), fact("maximum", number(feature.max_activation))),
    ];
    if (feature.heading.source !== "explanation") parts[1].className = "label evidence";
    const score = feature.explanations.flatMap((each) => each.scores).find((each) => each.value !== null);
    if (score) {
      const words = `${score.scorer} ${fixed(score.value)} ${interval(score.low, score.high)}, shuffled ${fixed(score.baseline)}, n ${score.n}`;
      parts.push(make("p", {}, words));
    }
    if (feature.tags.length) parts.push(make("p", { class: "facts" }, fact(feature.tags.length === 1 ? "tag" : "tags", feature.tags.join(", "))));
    const near = feature.neighbours.cosine;
    const hidden = near.filter((each) => Number.isNaN(plot.u?.[each.feature] ?? NaN)).length;
    if (Number.isNaN(plot.u?.[index] ?? NaN)) parts.push(make("p", { class: "quiet" }, "It is not drawn: one of the axes is not known of it."));
    if (!near.length) return parts;
    parts.push(
      make("h3", {}, "Nearest decoder directions"),
      make("ol", {}, ...near.map((each) => make("li", {},
        make("span", { class: "n" }, fixed(each.value)),
        make("span", {}, make("a", { href: address(path(each.feature)) }, String(each.feature)), ` ${each.heading ?? "(not indexed)"}`)))),
    );
    if (hidden) parts.push(make("p", { class: "quiet" }, `${hidden} of them not drawn.`));
    return parts;
  }

  return {
    hover(index) {
      if (chosen !== null) return;
      clearTimeout(timer);
      if (index !== null) timer = setTimeout(() => look(index), REST_MS);
    },
    choose(index) {
      clearTimeout(timer);
      chosen = index;
      return look(index);
    },
  };
}

const fact = (name, value) => make("span", {}, make("span", {}, name), ` ${value}`);
