// /attention: tokens of a text, features that fire at one of them, arcs to what they read from, and steps back.
import * as api from "../lib/api.js";
import { Arcs } from "../lib/arcs.js";
import { Asking, carryFragment, inFragment, keepInFragment, PromptBox, scriptStarted, sentByKeys, sharing } from "../lib/ask.js";
import { count, number, plural, signed } from "../lib/format.js";
import { address } from "../lib/http.js";
import { announce, draw, given, keepInQuery, make } from "../lib/state.js";
import { TokenText } from "../lib/token_text.js";
import { level, shown } from "../lib/tokens.js";
import { PairPanel } from "./attention_pair.js";
import { bar, labelOf, largest, nameOf, placeOf } from "./attention_parts.js";

const DEPTH = 3; // sources, what stands there, what that was made of
const LISTED = 8;
const HEADS = 12;
const CELLS = 12; // of head and token
const data = given("data");
const find = (name) => document.querySelector(`[data-${name}]`);

function start() {
  const form = document.querySelector("form.ask");
  const prompt = new PromptBox(find("text-box"), form.querySelectorAll("[name=kind]"), { most: data.most, label: "The text to be read" });
  const asking = new Asking(find("asked"));
  const arcs = new Arcs(find("arcs"), find("read"), (source) => why(headOf(state.feature, source), source));
  const pair = new PairPanel({ body: asked });
  const state = { prompt: null, answers: new Map(), answer: null, feature: null };
  const text = new TokenText(find("read"), { look: () => {}, choose });

  /** The token that a span stands for: before the first there may be a BOS. */
  const tokenOf = (span) => span - (state.answer?.bos ? 1 : 0);
  const spanOf = (token) => token + (state.answer?.bos ? 1 : 0);

  async function choose(span) {
    const token = tokenOf(span);
    if (token < 0) {
      announce("Features are not told at the BOS.");
      return;
    }
    keepInQuery({ at: token });
    const answer = state.answers.get(token) ?? (await read({ tokens: [token] }));
    if (!answer || text.held !== span) return;
    state.answers.set(token, answer);
    state.answer = answer;
    const wanted = Number(new URLSearchParams(location.search).get("f") ?? -1);
    const kept = answer.features.find((each) => each.index === wanted);
    showToken(token, kept ?? answer.features[0] ?? null);
  }

  /** What is asked of the text, whatever of it is looked at. */
  function asked() {
    const { residual } = form.elements;
    return { ...state.prompt, sae: data.sae, residual_sae: residual.value === data.without ? null : residual.value };
  }

  function why(head, source) {
    pair.choose({ head, token: state.feature.token, source });
  }

  function read(more) {
    const body = {
      ...asked(), top_k: Number(form.elements.top_k.value), depth: DEPTH, listed: LISTED,
      through: data.through.length ? data.through : null, ...more,
    };
    return asking.run("Reading", (signal) => api.inferenceAttention({ body, signal }));
  }

  function showToken(token, feature) {
    state.feature = feature;
    const { features, tokens } = state.answer;
    const rows = features.map((each) => featureRow(each, each === feature));
    find("features").replaceChildren(
      make("h2", {}, "Features at ", make("span", { class: "token", dir: "auto" }, shown(tokens[token].text) || "(empty)"), make("span", { class: "quiet" }, ` token ${count(token)}`)),
      rows.length ? make("table", {}, make("thead", {}, make("tr", {}, ...["feature", "fires on", "activation", ""].map((each, n) => make("th", { class: n === 1 ? null : "n" }, each || make("span", { class: "unseen" }, "choose"))))), make("tbody", {}, ...rows))
        : make("p", { class: "quiet" }, "Nothing fires here."));
    showFeature();
  }

  function featureRow(each, chosen) {
    const link = address(`/saes/${encodeURIComponent(data.sae)}/features/${each.index}`);
    const button = make("button", { type: "button", "aria-pressed": String(chosen), onclick: () => {
      keepInQuery({ f: each.index });
      showToken(each.token, each);
      find("features").querySelector("[aria-pressed=true]").focus();
    } }, "Sources");
    return make("tr", { class: chosen ? "chosen" : null },
      make("th", { scope: "row", class: "n" }, make("a", { href: link }, String(each.index))),
      make("td", { class: "label", dir: "auto" }, labelOf(each) || "not indexed"),
      make("td", { class: "n" }, number(each.activation)),
      make("td", {}, button));
  }

  function showFeature() {
    const { feature, answer } = state;
    const panel = find("feature");
    if (!feature) {
      panel.replaceChildren();
      arcs.show(null, []);
      text.colour(new Uint8Array(text.spans.length));
      return;
    }
    const sources = feature.by_source.map((value, token) => [token, value]);
    if (feature.bos !== null) sources.unshift([-1, feature.bos]);
    const most = Math.max(...sources.map(([, value]) => value));
    const shades = new Uint8Array(text.spans.length);
    for (const [token, value] of sources) shades[spanOf(token)] = level(value, most);
    text.colour(shades);
    arcs.show(text.spans[spanOf(feature.token)], sources.map(([token, value]) => ({ element: text.spans[spanOf(token)], value, name: token, says: `Why the head that brings most looks at ${placeOf(token, answer)}: ${signed(value)}` })));
    panel.replaceChildren(
      make("h2", {}, "Feature ", make("a", { href: address(`/saes/${encodeURIComponent(data.sae)}/features/${feature.index}`) }, String(feature.index)), make("span", { class: "quiet" }, ` ${labelOf(feature)}`)),
      make("p", { class: "quiet" }, `Pre-activation ${number(feature.pre)}: the sum of what follows, with attention where it was.`),
      make("h3", {}, `Heads of block ${answer.layer}`), headBars(feature),
      make("h3", {}, "Heads and tokens"),
      make("p", { class: "quiet" }, "The largest parts. A figure leads to why that head looks there."),
      cellTable(feature, answer, why),
      make("h3", {}, "Reads from"),
      make("p", { class: "quiet" }, "+ goes one step back: to what a part was made of."),
      stepsOf(feature.parts ?? [], largest(feature.parts ?? [])));
  }

  function stepsOf(parts, most) {
    return make("ul", { class: "steps" }, ...parts.filter(({ kind }) => kind !== "rounding").map((part) => stepOf(part, most)));
  }

  function stepOf(part, most) {
    const item = make("li", {});
    const name = nameOf(part, state.answer);
    const says = `what ${name.textContent} was made of`;
    const toggle = !part.parts ? make("span") : make("button", { type: "button", "aria-expanded": "false", "aria-label": `Show ${says}`, onclick: () => {
      const opened = toggle.getAttribute("aria-expanded") === "false";
      toggle.setAttribute("aria-expanded", String(opened));
      toggle.setAttribute("aria-label", `${opened ? "Hide" : "Show"} ${says}`);
      toggle.textContent = opened ? "−" : "+";
      if (opened) item.append(stepsOf(part.parts, largest(part.parts)));
      else item.lastChild.remove();
    } }, "+");
    item.append(make("div", { class: "row" }, toggle, name, bar(part.value, most), make("span", { class: "n" }, signed(part.value, 3))));
    return item;
  }

  async function ask() {
    const written = prompt.value;
    if (!written) {
      asking.say("Write a text first.");
      return;
    }
    if (prompt.isTooLong) {
      asking.say(`${count(prompt.length)} characters: at most ${count(data.most)} can be sent.`);
      return;
    }
    await keepInFragment("t", written);
    find("share").hidden = false;
    Object.assign(state, { prompt: written, answers: new Map(), answer: null });
    const answer = await read({});
    if (!answer) return;
    state.answer = answer;
    for (const name of ["lens", "pair"]) find(name).hidden = false;
    text.show([...(answer.bos ? [answer.bos] : []), ...answer.tokens].map((each) => each.text));
    const last = answer.tokens.length - 1;
    state.answers.set(last, answer);
    asking.say(`${plural(answer.tokens.length, "token")}, ${plural(answer.heads, "head")} of block ${answer.layer}.`);
    const at = Number(new URLSearchParams(location.search).get("at") ?? last);
    text.hold(spanOf(at >= 0 && at <= last ? at : last));
    pair.begin(answer);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepInQuery({ at: null, f: null, pair: null });
    ask();
  });
  for (const name of ["top_k", "residual"]) {
    form.elements[name].addEventListener("change", () => {
      keepInQuery({ [name]: form.elements[name].value });
      if (state.prompt) ask();
    });
  }
  sentByKeys(form);
  sharing(find("share"));

  async function fromAddress() {
    carryFragment();
    const held = await inFragment("t");
    if (!held) return;
    prompt.set(held);
    await ask();
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

function headBars({ by_head: values }) {
  const order = values.map((value, head) => [head, value]).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(Math.abs(order[0][1]), 1e-12);
  const told = order.slice(0, HEADS).flatMap(([head, value]) => [make("dt", {}, `head ${head}`), make("dd", {}, bar(value, most)), make("dd", { class: "n" }, signed(value, 3))]);
  const rest = order.slice(HEADS);
  const sum = rest.reduce((all, [, value]) => all + value, 0);
  return make("div", {}, make("dl", { class: "bars" }, ...told), rest.length ? make("p", { class: "quiet" }, `${plural(rest.length, "more head")}: ${signed(sum, 3)}`) : null);
}

/** The largest parts by head and token; each leads to why that head looks there. */
function cellTable(feature, answer, why) {
  const cells = feature.cells.slice(0, CELLS);
  if (!cells.length) return make("p", { class: "quiet" }, "No head brings anything.");
  const most = Math.max(...cells.map(([, , value]) => Math.abs(value)));
  const heads = [...new Set(cells.map(([head]) => head))].sort((a, b) => a - b);
  const sources = [...new Set(cells.map(([, source]) => source))].sort((a, b) => a - b);
  const cell = (head, source) => {
    const [, , value] = cells.find((each) => each[0] === head && each[1] === source) ?? [null, null, null];
    if (value === null) return make("td");
    const words = `Why head ${head} looks at ${placeOf(source, answer)}: ${signed(value)}`;
    return make("td", { class: "n" }, make("button", { type: "button", class: `h${level(value, most)}${value < 0 ? " less" : ""}`, "aria-label": words, title: words, onclick: () => why(head, source) }, signed(value)));
  };
  return make("div", { class: "tablebox", tabindex: "0", role: "region", "aria-label": "Heads and tokens" }, make("table", { class: "cells" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "from"), ...heads.map((head) => make("th", { scope: "col", class: "n" }, `head ${head}`)))),
    make("tbody", {}, ...sources.map((source) => make("tr", {}, make("th", { scope: "row", dir: "auto" }, placeOf(source, answer)), ...heads.map((head) => cell(head, source)))))));
}

/** The head that brings most from a token, among the largest cells, else altogether. */
function headOf(feature, source) {
  const here = feature.cells.filter((each) => each[1] === source);
  if (here.length) return here.reduce((a, b) => (Math.abs(b[2]) > Math.abs(a[2]) ? b : a))[0];
  const sizes = feature.by_head.map(Math.abs);
  return sizes.indexOf(Math.max(...sizes));
}

scriptStarted();
if (data) start();
