// Features of a graph's prompt changed by hand: which, how and where; logits before and after, what the graph predicts beside.
import { Asking } from "../lib/ask.js";
import { fixed, number, percent, plural, signed } from "../lib/format.js";
import { address, call } from "../lib/http.js";
import { announce, draw, keepInQuery, make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";

const MOST = 50;
/** Edits of one run, as REST takes them. */
const MODES = { ablate: "take away", scale: "multiply by", clamp: "set to", add: "add" };
const PLACES = { own: null, firing: "all tokens where it fires", every: "every token" };
const FIRST = { ablate: "", scale: "2", clamp: "0", add: "1" };
const WIDE = 100;

/** Edits as the address has them: NODE:MODE[:STRENGTH[:PLACE]]. */
function editsFrom(query) {
  const edits = new Map();
  for (const each of query.getAll("edit").slice(0, MOST)) {
    const [node, mode = "ablate", strength = "", place = "own"] = each.split(":");
    if (!/^\d{1,9}$/.test(node) || !Object.hasOwn(MODES, mode) || !Object.hasOwn(PLACES, place)) continue;
    edits.set(Number(node), { node: Number(node), mode, strength: Number.isFinite(Number(strength)) ? strength : "", place });
  }
  return edits;
}

export class Steering {
  /** `graph()`: what is drawn, of `columnsOf`, or null; `look(number)`: a node is to be looked at. */
  constructor(data, { graph, look }) {
    const query = new URLSearchParams(location.search);
    Object.assign(this, { data, graph, look, edits: editsFrom(query) });
    this.section = document.getElementById("steering");
    this.form = this.section.querySelector("form");
    this.asking = new Asking(this.section.querySelector("[data-asked]"), { loading: "The first request loads the model and all SAEs of the graph." });
    const { held } = this.form.elements;
    if ([...held.options].some(({ value }) => value === query.get("held"))) held.value = query.get("held");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run();
    });
    this.form.addEventListener("change", () => this.#kept());
    this.draw();
  }

  /** Features, by numbers of their nodes, that are to be ablated until somebody says otherwise. */
  add(nodes) {
    const graph = this.graph();
    const features = nodes.filter((node) => graph?.kind[graph.at.get(node)] === "feature" && !this.edits.has(node));
    for (const node of features.slice(0, MOST - this.edits.size)) this.edits.set(node, { node, mode: "ablate", strength: "", place: "own" });
    if (!nodes.some((node) => this.edits.has(node))) announce("Only features can be changed.");
    else if (features.length) announce(`${plural(this.edits.size, "feature")} to be changed`);
    this.draw();
    this.#kept();
    this.section.scrollIntoView({ block: "nearest" });
    this.section.querySelector("[data-edits] select")?.focus({ preventScroll: true });
  }

  draw() {
    this.section.hidden = false;
    const rows = [...this.edits.values()].map((each) => this.#row(each));
    this.section.querySelector("[data-edits]").replaceChildren(...(rows.length ? rows : [make("li", { class: "quiet" }, "None yet: look at a feature, or pin some.")]));
  }

  #label(node) {
    const graph = this.graph();
    const i = graph?.at.get(node);
    if (i === undefined) return `node ${node}`;
    return `${shown(graph.label[i])} at “${shown(graph.tokens[graph.position[i]] ?? "").trim()}”`;
  }

  #row(edit) {
    const name = this.#label(edit.node);
    const strength = make("input", { type: "number", step: "any", class: "small", value: edit.strength, "aria-label": `How far, ${name}`, oninput: () => (edit.strength = strength.value) });
    const set = () => {
      strength.hidden = edit.mode === "ablate";
      strength.required = edit.mode !== "ablate";
    };
    const mode = choice(MODES, edit.mode, `What is done, ${name}`, (value) => {
      edit.mode = value;
      edit.strength = strength.value = FIRST[value];
      set();
    });
    const place = choice({ ...PLACES, own: "its own token" }, edit.place, `Where, ${name}`, (value) => (edit.place = value));
    set();
    const drop = make("button", { type: "button", class: "drop plain", "aria-label": `Leave ${name} alone`, onclick: () => {
      this.edits.delete(edit.node);
      this.draw();
      this.#kept();
      this.form.querySelector("[data-edits] select, [type=submit]").focus();
    } }, "×");
    return make("li", {}, make("button", { type: "button", class: "link", onclick: () => this.look(edit.node) }, name), make("span", { class: "how" }, mode, strength, place, drop));
  }

  #kept() {
    const named = [...this.edits.values()].map(({ node, mode, strength, place }) => `${node}:${mode}${strength !== "" || place !== "own" ? `:${strength}` : ""}${place === "own" ? "" : `:${place}`}`);
    const { value } = this.form.elements.held;
    keepInQuery({ edit: named, held: value === "nothing" ? null : value });
  }

  async #run() {
    if (!this.edits.size) return this.asking.say("Look at a feature, or pin some, to change them.");
    const edits = [...this.edits.values()].map(({ node, mode, strength, place }) => ({
      node, mode, ...(mode === "ablate" ? {} : { strength: Number(strength) }), ...(place === "own" ? {} : { position: place }),
    }));
    const body = { edits, held: this.form.elements.held.value };
    const answer = await this.asking.run("Running the prompt", (signal) => call("POST", `/api/v1/graphs/${this.data.id}/steer`, { body, signal }));
    if (answer !== null) this.#show(answer);
  }

  #show(answer) {
    const box = this.section.querySelector("[data-steered]");
    box.replaceChildren(...[goalTable(answer), tokenTable(answer), this.#moved(answer)].filter(Boolean));
    announce(`Run with ${plural(answer.edits, "activation")} changed.`);
  }

  #moved({ features }) {
    if (!features.length) return make("p", { class: "quiet" }, "No other feature changed.");
    const most = Math.max(...features.flatMap(({ before, after, predicted }) => [after - before, predicted ?? 0].map(Math.abs))) || 1;
    const { data } = this;
    const rows = features.map((each) => {
      const label = shown(each.label ?? "") || `${data.saes[each.coder] ?? ""} ${each.latent}`;
      const name = each.node === null ? make("a", { href: address(`/saes/${encodeURIComponent(data.saes[each.coder])}/features/${each.latent}`) }, label)
        : make("button", { type: "button", class: "link", onclick: () => this.look(each.node) }, label);
      const real = each.after - each.before;
      const token = shown(this.graph()?.tokens[each.position] ?? "").trim();
      return make("tr", {}, make("th", { scope: "row" }, name, each.node === null ? make("span", { class: "quiet" }, " not in this graph") : ""),
        make("td", {}, make("span", { class: "token" }, token), make("span", { class: "quiet" }, ` ${each.position}`)),
        cell(number(each.before)), cell(number(each.after)), cell(each.predicted === null ? "–" : signed(each.predicted)), cell(signed(real)),
        make("td", {}, pair([each.predicted, real], most, ["by the graph", "really"])));
    });
    return block("Other features that change most", "Changes by the graph (hollow bars) and really (full). A feature that did not fire there before has no prediction.",
      ["feature", "token", "n:before", "n:after", "n:by the graph", "n:really", ""], rows);
  }
}

function choice(names, chosen, label, changed) {
  const select = make("select", { "aria-label": label, onchange: () => changed(select.value) },
    ...Object.entries(names).map(([value, words]) => make("option", { value, selected: value === chosen }, words)));
  return select;
}

const tokenHead = (text) => make("th", { scope: "row" }, make("span", { class: "token" }, shown(text)));
const cell = (words) => make("td", { class: "n" }, words);

function block(title, says, heads, rows) {
  const head = heads.map((each) => (each.startsWith("n:") ? make("th", { scope: "col", class: "n" }, each.slice(2)) : make("th", { scope: "col" }, each || make("span", { class: "unseen" }, "drawn"))));
  return make("section", {}, make("h3", {}, title), says ? make("p", { class: "quiet" }, says) : "",
    make("div", { class: "tablebox", tabindex: 0, role: "region", "aria-label": title }, make("table", {}, make("caption", { class: "unseen" }, title), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows))));
}

function goalTable({ goals, held }) {
  const most = Math.max(...goals.flatMap(({ before, after, predicted }) => [after - before, predicted].map(Math.abs))) || 1;
  const rows = goals.map((each) => {
    const real = each.after - each.before;
    return make("tr", {}, tokenHead(each.label), cell(fixed(each.before)), cell(fixed(each.after)),
      cell(signed(each.direct)), cell(signed(each.predicted)), cell(signed(real)), make("td", {}, pair([each.predicted, real], most, ["by the graph", "really"])));
  });
  const says = held === "all" ? "All was held, so that what really happens is the direct change." : "Changes directly, by edges from the changed features alone; by the graph, along all paths with features taken as linear; and really. Bars: hollow by the graph, full really.";
  return block("What the graph explains", says, ["", "n:before", "n:after", "n:directly", "n:by the graph", "n:really", ""], rows);
}

function tokenTable({ tokens, kl }) {
  const most = Math.max(...tokens.flatMap(({ logit_before, logit_after }) => [logit_before, logit_after].map(Math.abs))) || 1;
  const rows = tokens.map((each) => make("tr", {}, tokenHead(each.text),
    cell(fixed(each.logit_before)), cell(fixed(each.logit_after)), make("td", {}, pair([each.logit_before, each.logit_after], most, ["before", "after"])),
    cell(percent(each.probability_before)), cell(percent(each.probability_after))));
  return block("Next tokens, before and after", `The probabilities differ by ${number(kl)} nats (Kullback-Leibler). Bars are logits, less the mean of all: hollow before, full after.`,
    ["token", "n:logit before", "n:after", "", "n:probability before", "n:after"], rows);
}

/** Two bars from a common 0: the upper is hollow. */
function pair(values, most, names) {
  const middle = WIDE / 2;
  const bars = values.map((value, row) => {
    const long = ((value ?? 0) / most) * middle;
    return draw("rect", { x: Math.min(middle, middle + long), y: 1 + row * 8, width: Math.max(Math.abs(long), value === null ? 0 : 0.5), height: 6, class: row ? "now" : "was" });
  });
  const says = names.map((name, place) => `${name} ${values[place] === null ? "unknown" : signed(values[place])}`).join(", ");
  return draw("svg", { class: "pair", viewBox: `0 0 ${WIDE} 16`, width: WIDE, height: 16, role: "img", "aria-label": says }, draw("path", { class: "zero", d: `M${middle} 0V16` }), ...bars);
}
