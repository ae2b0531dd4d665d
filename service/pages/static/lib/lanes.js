// Pinned features as strips of heat under a text, one place for each token.
import { number, percent } from "./format.js";
import { address } from "./http.js";
import { key } from "./reading.js";
import { draw, make } from "./state.js";
import { level, shown } from "./tokens.js";

export class Lanes {
  constructor(element, { go, drop }) {
    Object.assign(this, { element, go, drop });
    this.places = [];
  }

  /** `pins`: keys of features, in their order. */
  show(reading, pins, at) {
    this.reading = reading;
    const known = pins.map((pin) => reading.lanes.get(pin)).filter(Boolean);
    this.places = known.map(() => draw("rect", { class: "place", y: 0, height: 1, width: 0.15 }));
    this.element.replaceChildren(...known.map((lane, n) => this.#lane(lane, this.places[n])));
    if (at !== null) this.look(at);
  }

  /** Marks the token that is looked at. */
  look(token) {
    for (const place of this.places) place.setAttribute("x", token + 0.42);
  }

  #lane(lane, place) {
    const { saes, length } = this.reading;
    const sae = saes[lane.sae].name;
    const most = Math.max(...lane.activations);
    const on = lane.activations.filter((each) => each > 0).length;
    const says = `${on} of ${length} tokens, at most ${number(most)}` +
      (lane.most > 0 ? `, ${percent(most / lane.most)} of its maximum` : "");
    const strip = draw("svg", {
      class: "strip", viewBox: `0 0 ${length} 1`, preserveAspectRatio: "none", role: "img",
      "aria-label": `Feature ${lane.index} of ${sae} over the text: ${says}`,
    });
    strip.append(...runs(lane), place);
    strip.addEventListener("click", (event) => {
      const box = strip.getBoundingClientRect();
      this.go(Math.min(length - 1, Math.floor(((event.clientX - box.left) / box.width) * length)));
    });
    const name = make("a", { href: address(`/saes/${encodeURIComponent(sae)}/features/${lane.index}`) }, `${lane.index}`);
    return make("div", { class: "lane" },
      make("span", {}, saes.length > 1 ? `${sae} ` : "", name, ` ${shown(lane.label ?? "not indexed")} `, make("span", { class: "quiet" }, says)),
      make("button", { type: "button", class: "plain", "aria-label": `Unpin feature ${lane.index}`, onclick: () => this.drop(key(lane.sae, lane.index)) }, "×"),
      strip);
  }
}

/** Neighbours of one shade are one rectangle. */
function runs(lane) {
  const rectangles = [];
  let first = 0;
  const shades = lane.activations.map((each) => level(each, lane.scale));
  for (let token = 1; token <= shades.length; token += 1) {
    if (shades[token] === shades[first]) continue;
    if (shades[first]) rectangles.push(draw("rect", { class: `h${shades[first]}`, x: first, y: 0, width: token - first, height: 1 }));
    first = token;
  }
  return rectangles;
}
