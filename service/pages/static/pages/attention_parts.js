// What parts of attributions are called on /attention, and the bars that show how large they are.
import { count, plural } from "../lib/format.js";
import { address } from "../lib/http.js";
import { draw, make } from "../lib/state.js";
import { clipped, shown } from "../lib/tokens.js";

const WORDS = {
  embedding: "token embedding", position: "position embedding", attention: "attention", mlp: "MLP", block: "what it adds",
  b_enc: "encoder bias", b_dec: "decoder bias", b_V: "bias of values", b_O: "bias of W_O", norm: "shift of the norm",
  encoder: "later steps of the encoder", bias: "biases of norm and projection", elsewhere: "features of other tokens alone", rounding: "rounding",
};

/** Says what a part is; a feature leads to its page. */
export function nameOf(part, answer) {
  const { kind } = part;
  const layer = part.layer ?? null;
  const token = part.token ?? null;
  if (kind === "source") return make("span", { class: "name", dir: "auto" }, wordOf(token, answer), make("span", { class: "quiet" }, token < 0 ? " BOS" : ` token ${count(token)}`));
  if (kind === "feature") {
    const { name } = answer.saes[part.sae];
    return make("span", { class: "name", dir: "auto" }, make("a", { href: address(`/saes/${encodeURIComponent(name)}/features/${part.feature}`) }, `${shown(name)} ${part.feature}`), ` ${labelOf(part)}`);
  }
  if (kind === "other") return make("span", { class: "name quiet" }, part.count ? plural(part.count, "smaller part") : "smaller parts");
  if (kind === "error") return make("span", { class: "name" }, `error of ${shown(answer.saes[part.sae].name)}${token === null ? "" : ` at ${wordOf(token, answer)}`}`);
  return make("span", { class: "name" }, `${WORDS[kind] ?? kind}${layer === null ? "" : ` of block ${layer}`}`);
}

/** What a feature is about, on one line. */
export const labelOf = ({ label }) => shown(label ?? "");

/** A token in quotes; -1 is the BOS before the text. */
export function wordOf(token, { bos, tokens }) {
  return `“${clipped(token < 0 ? bos.text : tokens[token].text)}”`;
}

/** The same with its number. */
export const placeOf = (token, answer) => `${wordOf(token, answer)} ${token < 0 ? "BOS" : `token ${count(token)}`}`;

export const largest = (parts) => Math.max(...parts.map((each) => Math.abs(each.value)), 1e-12);

/** From the middle to the right what adds, to the left what takes away. */
export function bar(value, most) {
  const width = (50 * Math.min(Math.abs(value), most)) / most;
  const svg = draw("svg", { viewBox: "0 0 100 9", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(draw("rect", { class: "rail", width: 100, height: 9 }), draw("rect", { class: value < 0 ? "less" : "more", x: value < 0 ? 50 - width : 50, width, height: 9 }));
  return svg;
}
