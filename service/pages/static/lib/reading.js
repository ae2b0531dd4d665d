// A text that SAEs have read (`POST /inference/read`): what fires on each token, and shades of it.
import { LEVELS, level } from "./tokens.js";

export class Reading {
  constructor(answer) {
    const { saes, tokens, features, firing, fires, unexplained, left_out: leftOut } = answer;
    Object.assign(this, { saes, tokens, features, firing, fires, unexplained, leftOut });
    this.length = tokens.text.length;
    /** Activations on every token by `key` of a feature. */
    this.lanes = new Map();
    this.#largest = new Float64Array(features.index.length);
    for (const token of firing) {
      for (const [place, activation] of token) if (activation > this.#largest[place]) this.#largest[place] = activation;
    }
  }

  #largest;

  /** What fires on a token, SAE by SAE, in the order that was asked for. */
  rows(token) {
    return this.firing[token].map(([place, activation]) => ({ ...this.feature(place), activation, share: this.share(place, activation) }));
  }

  feature(place) {
    const { sae, index, label, density, max_activation: most } = this.features;
    return { sae: sae[place], index: index[place], label: label[place], density: density[place], most: most[place] };
  }

  /** Of the feature's own maximum; null where it is not indexed. */
  share(place, activation) {
    const most = this.features.max_activation[place];
    return most > 0 ? activation / most : null;
  }

  /** Keeps what another answer tells of features over the whole text. */
  follow(answer) {
    for (const { feature, activations } of answer.followed) {
      const { sae, index, label, density, max_activation: most } = answer.features;
      const lane = { sae: sae[feature], index: index[feature], label: label[feature], density: density[feature], most: most[feature] };
      // A feature that is not indexed is measured by what it does here.
      lane.scale = lane.most > 0 ? lane.most : Math.max(...activations);
      this.lanes.set(key(lane.sae, lane.index), { ...lane, activations });
    }
  }

  /** Shades of all tokens, and what they mean: `[Uint8Array, words]`. */
  shades(how, pinned) {
    const shades = new Uint8Array(this.length);
    if (how === "strongest") {
      for (let token = 0; token < this.length; token += 1) {
        for (const [place, activation] of this.firing[token]) {
          const most = this.features.max_activation[place] || this.#largest[place];
          shades[token] = Math.max(shades[token], level(activation, most));
        }
      }
      return [shades, "darkest: a feature at the maximum that it has in the indexed text"];
    }
    if (how === "pinned") {
      const lane = pinned && this.lanes.get(pinned);
      if (!lane) return [shades, "pin a feature first"];
      lane.activations.forEach((activation, token) => (shades[token] = level(activation, lane.scale)));
      return [shades, `feature ${lane.index} of ${this.saes[lane.sae].name}, by its maximum`];
    }
    if (how === "unexplained") {
      const sae = this.unexplained.findIndex((each) => each !== null);
      if (sae < 0) return [shades, "these SAEs write to another place than they read"];
      this.unexplained[sae].forEach((share, token) => (shades[token] = level(share, 1)));
      return [shades, `what ${this.saes[sae].name} leaves unexplained, up to 100 %`];
    }
    return this.#counted(shades);
  }

  #counted(shades) {
    const told = this.fires.filter((each) => each !== null);
    if (told.length === 0) return [shades, "the inference server does not tell"];
    const counts = Array.from(shades, (_, token) => told.reduce((sum, each) => sum + each[token], 0));
    const least = Math.min(...counts);
    const most = Math.max(...counts);
    if (least === most) return [shades, `${most} features fire on every token`];
    counts.forEach((count, token) => (shades[token] = Math.round((LEVELS * (count - least)) / (most - least))));
    return [shades, `from ${least} to ${most} features`];
  }
}

export const key = (sae, index) => `${sae}:${index}`;
