// Why a head looks from one token to another: pairs of parts of query and key, as a picture and as tables that add up.
import * as api from "../lib/api.js";
import { Asking } from "../lib/ask.js";
import { count, fixed, percent, signed } from "../lib/format.js";
import { announce, draw, keepInQuery, make } from "../lib/state.js";
import { nameOf, placeOf } from "./attention_parts.js";

const LISTED = 10;
const ROW = 26; // pixels of a part in the picture, as in attention.css
const BOS = -1;
const FIELDS = ["head", "token", "source"];
const GROUPS = { features: "features", written: "what was written", error: "the error", bias: "biases", rounding: "rounding" };
const find = (name) => document.querySelector(`[data-${name}]`);

/** The section that answers; `body()`: what is asked of the text that is read, without the pair. */
export class PairPanel {
  constructor({ body }) {
    Object.assign(this, { body, answer: null });
    this.form = find("pair-form");
    this.asking = new Asking(find("pair-asked"));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const pair = this.#checked();
      if (pair) this.#ask(pair);
    });
  }

  /** The section of a text that was just read; what the address asks for is asked. */
  begin(answer) {
    this.asking.stop();
    this.asking.say("");
    this.answer = answer;
    this.#fault(null, "");
    find("pair-told").replaceChildren();
    find("pair-first").hidden = false;
    find("pair-title").textContent = "Why a head looks where it looks";
    const { head, token, source } = this.form.elements;
    head.max = answer.heads - 1;
    token.max = source.max = answer.tokens.length - 1;
    source.min = answer.bos ? BOS : 0;
    for (const name of FIELDS) this.form.elements[name].value = "";
    const named = /^(\d+)\.(\d+)\.(-1|\d+)$/.exec(new URLSearchParams(location.search).get("pair") ?? "");
    if (named) this.#named({ head: named[1], token: named[2], source: named[3] });
  }

  /** Asks why, and leads there. */
  choose(pair) {
    this.#named(pair);
    find("pair-title").focus();
    find("pair").scrollIntoView({ block: "start" });
  }

  #named(pair) {
    for (const name of FIELDS) this.form.elements[name].value = pair[name];
    this.form.requestSubmit();
  }

  /** The pair of the fields; null where one of them is at fault, which is said there. */
  #checked() {
    const { answer } = this;
    const last = answer.tokens.length - 1;
    const [head, token, source] = FIELDS.map((name) => Number(this.form.elements[name].value.trim() || NaN));
    const within = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
    if (!within(head, 0, answer.heads - 1)) return this.#fault("head", `This block has heads 0 to ${answer.heads - 1}.`);
    if (!within(token, 0, last)) return this.#fault("token", `The text has tokens 0 to ${count(last)}.`);
    if (source === BOS && !answer.bos) return this.#fault("source", "No BOS was read before this text.");
    if (!within(source, BOS, last)) return this.#fault("source", answer.bos ? `The text has tokens 0 to ${count(last)}; −1 is the BOS.` : `The text has tokens 0 to ${count(last)}.`);
    if (source > token) return this.#fault("source", "A token looks back, or at itself.");
    this.#fault(null, "");
    return { head, token, source };
  }

  /** Says what is wrong at a field; with null nothing is. */
  #fault(name, words) {
    for (const each of FIELDS) {
      const field = this.form.elements[each];
      if (each === name) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
      const error = document.getElementById(`pair-${each}-error`);
      error.hidden = each !== name;
      error.textContent = each === name ? words : "";
    }
    if (name) {
      this.form.elements[name].focus();
      announce(words);
    }
    return null;
  }

  async #ask(pair) {
    keepInQuery({ pair: `${pair.head}.${pair.token}.${pair.source}` });
    const answerBox = find("pair-told");
    answerBox.setAttribute("aria-busy", "true");
    const body = { ...this.body(), tokens: [pair.token], top_k: 1, depth: 0, listed: LISTED, pair };
    const answer = await this.asking.run("Reading why", (signal) => api.inferenceAttention({ body, signal }));
    answerBox.removeAttribute("aria-busy");
    if (!answer) {
      answerBox.replaceChildren();
      return;
    }
    find("pair-first").hidden = true;
    find("pair-title").replaceChildren(...titleOf(answer));
    answerBox.replaceChildren(...shownPair(answer));
  }
}

function titleOf(answer) {
  const { head, token, source } = answer.pair;
  const at = (place) => make("bdi", { class: "token" }, placeOf(place, answer));
  return [`Why head ${head} looks from `, at(token), " to ", at(source)];
}

function shownPair(answer) {
  const { pair } = answer;
  const fact = (name, value) => make("span", {}, make("span", {}, name), ` ${value}`);
  const involving = (group) => pair.groups.filter(({ query, key }) => query === group || key === group)
    .reduce((all, each) => all + each.relative_share, 0);
  const shares = [`${percent(involving("bias"))} has a bias in it`];
  if (pair.groups.some(({ query, key }) => query === "error" || key === "error")) shares.push(`${percent(involving("error"))} an error of the SAE`);
  return [
    make("p", { class: "facts" }, fact("attention", percent(pair.weight)), fact("score", fixed(pair.score, 3)), fact("average of where it may look", fixed(pair.average, 3)), fact("beyond the average", signed(pair.score - pair.average, 3))),
    make("p", { class: "quiet" }, `Pairs are ordered by what they add beyond the average: what every key has alike changes no attention. Of all that pairs add and take away there, ${shares.join(", ")}.`),
    make("div", { class: "told" }, pictureOf(answer), pairTable(answer)),
    make("div", { class: "sides" }, sideTable(answer, "query", pair.token), sideTable(answer, "key", pair.source), groupTable(pair)),
  ];
}

/** Parts of the query on the left, of the key on the right, a line for each of the largest pairs. */
function pictureOf(answer) {
  const { pair } = answer;
  const side = (place) => [...new Set(pair.pairs.map((each) => each[place]))].sort((a, b) => a - b);
  const [left, right] = [side(0), side(1)];
  const most = Math.max(...pair.pairs.map(([, , , value]) => Math.abs(value)), 1e-12);
  const height = ROW * Math.max(left.length, right.length, 1);
  const at = (places, place) => ROW * (places.indexOf(place) + 0.5);
  const lines = draw("svg", { viewBox: `0 0 100 ${height}`, height, preserveAspectRatio: "none" });
  for (const [query, key, , value] of pair.pairs) {
    const [from, to] = [at(left, query), at(right, key)];
    const size = Math.abs(value) / most;
    lines.append(draw("path", { d: `M 0 ${from} C 45 ${from}, 55 ${to}, 100 ${to}`, class: value < 0 ? "less" : "more", "stroke-width": Math.max(0.8, 6 * size), "stroke-opacity": 0.35 + 0.6 * size }));
  }
  const list = (places, parts) => make("div", { class: "parts" }, ...places.map((place) => {
    const { textContent } = nameOf(parts[place], answer);
    return make("div", { dir: "auto", title: textContent }, textContent);
  }));
  return make("figure", { class: "picture" },
    make("div", { "aria-hidden": "true" },
      make("div", { class: "quiet" }, "query"), make("div"), make("div", { class: "quiet" }, "key"),
      list(left, pair.query), lines, list(right, pair.key)),
    make("figcaption", {}, "The strongest pairs. Wider is more; what takes away is broken."));
}

function pairTable(answer) {
  const { pair } = answer;
  const rows = pair.pairs.map(([query, key, score, relative]) => make("tr", {},
    make("td", {}, nameOf(pair.query[query], answer)),
    make("td", {}, nameOf(pair.key[key], answer)),
    ...figures(score, relative)));
  const listed = (place) => pair.pairs.reduce((all, each) => all + each[place], 0);
  const rest = [pair.score - listed(2), pair.score - pair.average - listed(3)];
  return tableOf("The strongest pairs", ["query", "key"], rows, [["all other pairs", ...rest], sumOf(pair)], 2);
}

function sideTable(answer, name, token) {
  const { pair } = answer;
  const rows = pair[name].map((each) => make("tr", {}, make("td", {}, nameOf(each, answer)), ...figures(each.score, each.relative)));
  return tableOf(`Parts of the ${name}, at ${placeOf(token, answer)}, each with all of the other side`, ["part"], rows, [sumOf(pair)], 1);
}

function groupTable(pair) {
  const rows = pair.groups.map((each) => make("tr", {}, make("td", {}, GROUPS[each.query]), make("td", {}, GROUPS[each.key]), ...figures(each.score, each.relative), make("td", { class: "n" }, percent(each.relative_share))));
  return tableOf("All pairs by what they are made of; share: of their absolute values beyond the average", ["query", "key"], rows, [[...sumOf(pair), percent(1)]], 2, "groups", ["share"]);
}

const sumOf = (pair) => ["sum", pair.score, pair.score - pair.average];

/** What it adds beyond the average comes first: it is what counts. */
const figures = (score, relative) => [make("td", { class: "n" }, signed(relative, 3)), make("td", { class: "n" }, signed(score, 3))];

/** `ends`: rows of the foot: words over `columns` cells, score, beyond, and texts for `more`. */
function tableOf(caption, names, rows, ends, columns, kind = "", more = []) {
  const heads = [...names.map((each) => make("th", { scope: "col" }, each)), ...["beyond the average", "score", ...more].map((each) => make("th", { scope: "col", class: "n" }, each))];
  const foot = ends.map(([words, score, relative, ...texts]) => make("tr", {},
    make("th", { scope: "row", colspan: columns }, words), ...figures(score, relative), ...texts.map((each) => make("td", { class: "n" }, each))));
  return make("div", { class: "tablebox", tabindex: "0", role: "region", "aria-label": caption }, make("table", { class: `wide ${kind}`.trim() },
    make("caption", { dir: "auto" }, caption), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows), make("tfoot", {}, ...foot)));
}
