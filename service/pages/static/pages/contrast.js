// /contrast: sends two sets of texts, warns of too few, shows the features that tell them apart.
import * as api from "../lib/api.js";
import { Asking, carryFragment, inFragment, keepInFragment, scriptStarted, sharing } from "../lib/ask.js";
import { count, fixed, number, percent, plural, signed } from "../lib/format.js";
import { address } from "../lib/http.js";
import { draw, given, keepInQuery, make } from "../lib/state.js";
import { clipped, level, shown } from "../lib/tokens.js";

const SIDES = ["positive", "negative"];
const ALPHA = 0.05;
const data = given("data");
const find = (name) => document.querySelector(`[data-${name}]`);

const linesOf = (text) => text.split(/\r?\n/).filter((line) => line.trim());

/** Labellings of n texts of which k are positive; no more than are tried. */
export function labellings(positive, negative, most) {
  let ways = 1;
  for (let k = 1; k <= Math.min(positive, negative); k += 1) {
    ways = (ways * (positive + negative - Math.min(positive, negative) + k)) / k;
    if (ways >= most) return most;
  }
  return Math.round(ways);
}

function start() {
  const form = document.querySelector("form.ask");
  const asking = new Asking(find("asked"));
  const texts = () => Object.fromEntries(SIDES.map((side) => [side, linesOf(form.elements[side].value)]));

  /** Says before anything is sent what so few texts can show. */
  function warn() {
    const { positive, negative } = texts();
    for (const side of SIDES) {
      const lines = texts()[side].length;
      document.querySelector(`[data-count="${side}"]`).textContent = lines ? `(${lines})` : "";
    }
    const few = find("few");
    const ways = labellings(positive.length, negative.length, data.relabellings);
    few.hidden = !positive.length || !negative.length || 1 / ways <= ALPHA / 2;
    const needed = 1 / ways > ALPHA ? "so nothing can be told from chance at 5 %: add texts." : "so only a perfect separation can be told from chance.";
    few.textContent = `${positive.length} against ${negative.length}: no p below 1/${count(ways)}, ${needed}`;
  }

  /** What is wrong with the texts; null where nothing is. */
  function fault({ positive, negative }) {
    if (!positive.length || !negative.length) return "Write at least one text on each side.";
    if (Math.max(positive.length, negative.length) > data.texts) return `At most ${data.texts} texts can be sent on each side.`;
    const long = [...positive, ...negative].find((text) => Array.from(text).length > data.characters);
    return long ? `A text can have ${count(data.characters)} characters; this one has more: “${long.slice(0, 40)}…”.` : null;
  }

  async function ask() {
    const sets = texts();
    const wrong = fault(sets);
    if (wrong) {
      asking.say(wrong);
      return;
    }
    const { statistic, pooling, top_k: top, chat, describe } = form.elements;
    const description = describe.value.trim();
    await keepInFragment("s", { ...sets, chat: chat.checked, describe: description });
    find("share").hidden = false;
    keepInQuery({ statistic: statistic.value, pooling: pooling.value, top_k: top.value });
    const body = {
      ...sets, sae: data.sae, statistic: statistic.value, pooling: pooling.value, top_k: Number(top.value),
      chat: chat.checked, values: true, rerank: description ? { description } : null,
    };
    const answer = await asking.run("Reading the texts", (signal) => api.inferenceContrast({ body, signal }));
    if (!answer) return;
    const { tokens, relabellings, exact, reason } = answer;
    const how = exact ? "all that there are" : "drawn at random";
    asking.say(`${answer.n_positive} against ${answer.n_negative} texts, ${plural(tokens, "token")}. p: the share of ${plural(relabellings, "labelling")} of the texts (${how}) under which the best of all features does at least as well.${reason ? ` Not reranked: ${reason}` : ""}`);
    find("found").hidden = false;
    find("found").replaceChildren(...SIDES.map((side) => sideOf(answer, side, sets)));
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  form.addEventListener("input", warn);
  sharing(find("share"));

  async function fromAddress() {
    carryFragment();
    const held = await inFragment("s");
    if (!held) return;
    for (const side of SIDES) form.elements[side].value = (held[side] ?? []).join("\n");
    form.elements.chat.checked = held.chat === true;
    form.elements.describe.value = held.describe ?? "";
    warn();
    await ask();
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

function sideOf(answer, side, sets) {
  const features = answer[side];
  const heading = side === "positive" ? "More on the texts that have it" : "More on the texts that lack it";
  if (!features.length) return make("section", {}, make("h2", {}, heading), make("p", {}, "No feature."));
  const clear = features.filter((each) => each.p_value <= ALPHA).length;
  const reranked = side === "positive" && answer.reranked;
  const columns = [["feature", "n"], ["fires on", ""], ["p", "n"], ["AUROC", "n"], ["difference", "n"], ["fires on (share of texts)", "n"], ["each text: have it | lack it", ""]];
  if (reranked) columns.splice(2, 0, ["similarity", "n"]);
  return make("section", {},
    make("h2", {}, heading),
    make("p", { class: "quiet" }, `${clear} of the ${features.length} shown with p of at most .05, all features together`),
    make("div", { class: "tablebox" }, make("table", {},
      make("thead", {}, make("tr", {}, ...columns.map(([says, css]) => make("th", { class: css || null }, says)))),
      make("tbody", {}, ...features.map((each) => rowOf(each, answer, sets, reranked))))));
}

function rowOf(feature, answer, sets, reranked) {
  const link = address(`/saes/${encodeURIComponent(answer.sae.name)}/features/${feature.index}`);
  const cells = [
    make("th", { scope: "row", class: "n" }, make("a", { href: link }, String(feature.index))),
    make("td", { class: "label" }, shown(feature.label ?? "not indexed")),
    reranked ? make("td", { class: "n" }, fixed(feature.similarity)) : null,
    make("td", { class: "n" }, number(feature.p_value), feature.p_value > ALPHA ? make("span", { class: "unseen" }, ", chance does as well") : null),
    make("td", { class: "n" }, fixed(feature.auroc)),
    make("td", { class: "n", title: `mean ${number(feature.mean_positive)} against ${number(feature.mean_negative)}` }, signed(feature.standardised)),
    make("td", { class: "n" }, `${percent(feature.share_positive)} | ${percent(feature.share_negative)}`),
    make("td", {}, stripOf(feature, sets)),
  ];
  return make("tr", { class: feature.p_value > ALPHA ? "chance" : null }, ...cells);
}

/** A cell for each text, darker where the feature's value is larger. */
function stripOf({ index, values, p_value: p }, sets) {
  const all = SIDES.flatMap((side) => sets[side]);
  const first = sets.positive.length;
  const most = Math.max(...values);
  const step = Math.min(12, Math.max(3, 260 / all.length));
  const width = step * all.length + 8;
  const says = SIDES.map((side, n) => `${n ? "lack it" : "have it"}: ${values.slice(n ? first : 0, n ? undefined : first).map((each) => number(each)).join(", ")}`);
  const svg = draw("svg", { class: "texts", viewBox: `0 0 ${width} 16`, width, height: 16, role: "img", "aria-label": `Feature ${index}, p ${number(p)}. ${says.join("; ")}` });
  all.forEach((text, place) => {
    const shade = level(values[place], most);
    const cell = draw("rect", { class: shade ? `h${shade}` : "h0", x: place * step + (place >= first ? 8 : 0), y: 1, width: step - 1, height: 14 });
    cell.append(draw("title", {}, `${number(values[place])}: ${clipped(text)}`));
    svg.append(cell);
  });
  svg.append(draw("line", { x1: first * step + 3.5, x2: first * step + 3.5, y1: 0, y2: 16 }));
  return svg;
}

scriptStarted();
if (data) start();
