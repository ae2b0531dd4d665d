// The heads that carry an edge of a graph, layer by layer, and the pairs of the prompt's sources behind a head's score.
import { Asking } from "../lib/ask.js";
import { fixed, percent, plural, signed } from "../lib/format.js";
import { address, call } from "../lib/http.js";
import { announce, draw, keepInQuery, make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";

const TOP = 10;
/** Heads, and pairs, that are listed. */
const WIDE = 100;
const KINDS = { head: "the head's own biases", rounding: "rounding", other: "all others" };
const PLACE = ["layer", "head", "token", "source"];
const LOADING = { loading: "The first request loads the model and all SAEs of the graph." };
const begun = new WeakSet();

/** Wires the forms of a node's `details`, once. */
export function begin(part) {
  if (begun.has(part)) return;
  begun.add(part);
  const data = JSON.parse(part.dataset.headsOf);
  data.page = address(`/graphs/${data.id}/nodes/${data.node}`);
  const [edge, score] = ["heads", "score"].map((name) => part.querySelector(`[data-${name}-form]`));
  const why = new Answer(score, part.querySelector("[data-score]"), data);
  score.addEventListener("submit", (event) => {
    event.preventDefault();
    askScore(why);
  });
  if (edge === null) return;
  const heads = new Answer(edge, part.querySelector("[data-heads]"), data);
  edge.addEventListener("submit", (event) => {
    event.preventDefault();
    askHeads(heads, (layer, head, between) => {
      PLACE.forEach((name, at) => (score.elements[name].value = [layer, head, ...between][at]));
      score.scrollIntoView({ block: "nearest" });
      score.requestSubmit();
    });
  });
}

/** One form, the line that tells how its call goes, and where its answer stands. */
class Answer {
  constructor(form, box, data) {
    Object.assign(this, { form, box, data, asking: new Asking(form.querySelector("[data-asked]"), LOADING) });
  }

  /** What REST answers; null where it failed, and no older answer is left then. `kept`: into the address, or a link to it. */
  async ask(what, words, body, kept) {
    this.box.replaceChildren();
    const answer = await this.asking.run(words, (signal) => call("POST", `/api/v1/graphs/${this.data.id}/${what}`, { body, signal }));
    if (answer === null || !this.form.isConnected) return null;
    // Beside the drawing the address is the graph's own.
    if (this.data.page === location.pathname) keepInQuery(kept);
    return answer;
  }

  tell(...parts) {
    this.box.replaceChildren(...parts);
  }

  link(kept) {
    return this.data.page === location.pathname ? "" : make("p", {}, make("a", { href: `${this.data.page}?${new URLSearchParams(kept)}` }, "On a page of its own"));
  }
}

async function askHeads(told, choose) {
  const [chosen] = told.form.elements.edge.selectedOptions;
  const [source, target] = chosen.value.split("-").map(Number);
  const kept = { heads: chosen.value };
  const answer = await told.ask("heads", "Reading the prompt", { source, target, top: TOP }, kept);
  if (answer === null) return;
  const { value, heads, layers } = answer;
  const between = [Number(chosen.dataset.to), Number(chosen.dataset.from)];
  const why = between.every(Number.isInteger) && chosen.dataset.to !== "" && between[1] <= between[0];
  const sums = layers.map((each) => each.heads + each.bypass);
  const off = Math.max(0, ...sums.map((sum) => Math.abs(sum - value)));
  const says = `The edge is ${signed(value, 3)}. At each layer of attention, what goes through its heads and what goes past them add up to it${off < 0.0005 ? "" : `, to ${fixed(off, 3)}`}. One path may go through heads of several layers.`;
  const rows = heads.map(({ layer, head, value: own }) => {
    const ask = make("button", { type: "button", "aria-label": `Why head ${head} of layer ${layer} looks there`, onclick: () => choose(layer, head, between) }, "Why there?");
    return make("tr", {}, make("th", { scope: "row" }, `head ${head} of layer ${layer}`), cell(signed(own, 3)), make("td", {}, why ? ask : ""));
  });
  told.tell(
    make("p", {}, says),
    rows.length ? tableOf("Heads that carry most", ["head", "n:carries", "?why"], rows) : make("p", { class: "quiet" }, "No head carries any of it."),
    layers.length ? layerTable(layers) : make("p", { class: "quiet" }, "No layer of attention lies between the two."),
    told.link(kept));
  announce(`${plural(heads.length, "head")} carry the edge.`);
}

function layerTable(layers) {
  const most = Math.max(...layers.flatMap((each) => [each.heads, each.bypass].map(Math.abs)), 1e-30);
  const rows = layers.map(({ layer, heads, bypass }) => make("tr", {}, make("th", { scope: "row" }, String(layer)),
    make("td", {}, twoBars(bypass, heads, most)), cell(signed(bypass, 3)), cell(signed(heads, 3))));
  return tableOf("By layer: past the heads (hollow), through them (full)", ["layer", "?drawn", "n:past them", "n:through them"], rows);
}

/** From a common 0: what goes past the heads above, hollow; what goes through them below. */
function twoBars(bypass, heads, most) {
  const middle = WIDE / 2;
  const bars = [["was", bypass], ["now", heads]].map(([css, value], row) => {
    const long = (value / most) * (middle - 1);
    return draw("rect", { x: Math.min(middle, middle + long), y: 1 + row * 7, width: Math.max(Math.abs(long), 0.5), height: 5, class: css });
  });
  return draw("svg", { class: "pair", viewBox: `0 0 ${WIDE} 14`, width: WIDE, height: 14, "aria-hidden": "true" }, draw("path", { class: "zero", d: `M${middle} 0V14` }), ...bars);
}

async function askScore(told) {
  const body = Object.fromEntries(PLACE.map((name) => [name, Number(told.form.elements[name].value)]));
  const kept = { score: PLACE.map((name) => body[name]).join(".") };
  const answer = await told.ask("score", "Taking the score apart", { ...body, listed: TOP }, kept);
  if (answer === null) return;
  const { data } = told;
  const { layer, head, token, source, weight, score, average, pairs, exact } = answer;
  const [beyond, listed] = [score - average, pairs.reduce((sum, each) => sum + each.relative, 0)];
  const rows = pairs.map(({ query, key, relative }) => make("tr", {}, sourceCell(data, answer.query[query]), sourceCell(data, answer.key[key]), cell(signed(relative, 3))));
  const foot = [["all other pairs", beyond - listed], ["sum", beyond]].map(([words, value]) => make("tr", {}, make("th", { scope: "row", colspan: 2 }, words), cell(signed(value, 3))));
  const side = (name, words) => tableOf(words, ["source", "n:beyond"], answer[name].map((each) => make("tr", {}, sourceCell(data, each), cell(signed(each.relative, 3)))));
  told.tell(
    make("p", {}, `Head ${head} of layer ${layer} at `, at(data, token), ` gives `, at(data, source), ` ${percent(weight)} of its attention. Before the softmax the score is ${fixed(score, 3)}, and ${fixed(average, 3)} on average over the tokens that it looks at: ${signed(beyond, 3)} beyond the average, which is what moves attention here.`),
    tableOf("Pairs of sources, by what they add beyond the average", ["at the token that looks", "at the token looked at", "n:beyond"], rows, foot),
    exact ? "" : make("p", { class: "quiet" }, "Not all pairs were compared: others may be as large."),
    make("details", {}, make("summary", {}, "Each source with all of the other side"), side("query", `At the token that looks, ${token}`), side("key", `At the token looked at, ${source}`)),
    told.link(kept));
  announce(`${plural(pairs.length, "pair")} behind the score.`);
}

const at = ({ tokens }, place) => make("span", {}, make("span", { class: "token" }, shown(tokens[place] ?? "").trim() || "␣"), make("span", { class: "quiet" }, ` ${place}`));

/** What a source is, and at which token; a link where the graph has its node. */
function sourceCell(data, each) {
  const { kind, position, node } = each;
  const plain = kind === "feature" ? `${data.saes[each.coder] ?? `SAE ${each.coder}`} ${each.latent}`
    : kind === "error" ? `error of ${each.branch === "attention" ? "attention" : "the MLP"}, layer ${each.layer}` : kind === "bias" ? `${each.bias} bias` : (KINDS[kind] ?? kind);
  const name = shown(each.label || plain).slice(0, 90);
  const called = node === null ? name : make("a", { href: address(`/graphs/${data.id}/nodes/${node}`), "data-node": node }, name);
  return make("td", { dir: "auto" }, called, position === null ? "" : make("span", { class: "quiet" }, " at ", at(data, position)));
}

const cell = (words) => make("td", { class: "n" }, words);

/** Heads: `n:` before those of figures, `?` before those that are not seen. */
function tableOf(title, heads, rows, foot = []) {
  const head = heads.map((each) => make("th", each.startsWith("n:") ? { scope: "col", class: "n" } : { scope: "col" }, each.startsWith("?") ? make("span", { class: "unseen" }, each.slice(1)) : each.replace("n:", "")));
  return make("div", { class: "tablebox", tabindex: 0, role: "region", "aria-label": title },
    make("table", {}, make("caption", {}, title), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows), foot.length ? make("tfoot", {}, ...foot) : ""));
}
