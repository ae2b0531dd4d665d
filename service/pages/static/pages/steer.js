// /steer: cards of pushed features, and texts that are written while they are watched.
import { Asking, carryFragment, inFragment, keepInFragment, PromptBox, scriptStarted, sharing } from "../lib/ask.js";
import { number, percent, signed } from "../lib/format.js";
import { Problem, send } from "../lib/http.js";
import { Places } from "../lib/places.js";
import { given, keepInQuery, make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";
import { markFirstDifference, Written } from "../lib/written.js";
import { events } from "../lib/streams.js";

const AT_ONCE = 2;
const LIKELIEST = 5;
const FACTORS = [0.5, 1, 2, 4];
const data = given("data");
const find = (name) => document.querySelector(`[data-${name}]`);

/** A card of the page: its push, and its fields that say the same. */
class Card {
  constructor(element, onchange) {
    this.index = Number(element.dataset.card);
    this.most = element.dataset.most === undefined ? null : Number(element.dataset.most);
    this.field = element.querySelector("[data-strength]");
    this.slider = element.querySelector("[data-slide] input");
    this.mode = element.querySelector("[data-mode]");
    this.drop = element.querySelector("[data-drop]");
    this.activation = element.querySelector("[data-activation]");
    if (this.slider) {
      this.slider.parentElement.hidden = false;
      this.slider.addEventListener("input", () => {
        this.field.value = this.slider.value;
        this.#say(onchange);
      });
    }
    this.field.addEventListener("input", () => {
      if (this.slider) this.slider.value = this.field.value;
      this.#say(onchange);
    });
    this.mode.addEventListener("change", () => this.#say(onchange));
    this.#say(() => {});
  }

  get strength() {
    const strength = Number(this.field.value);
    return Number.isFinite(strength) ? strength : 0;
  }

  get named() {
    return `${this.index}=${this.strength}${this.mode.value === "add" ? "" : `=${this.mode.value}`}`;
  }

  push(factor) {
    return { index: this.index, strength: this.strength * factor, unit: this.most ? "max" : "activation", mode: this.mode.value };
  }

  #say(onchange) {
    const out = this.mode.value === "ablate";
    for (const each of [this.field, this.slider]) if (each) each.disabled = out;
    if (this.activation) this.activation.textContent = out ? "none" : number(this.strength * this.most);
    if (this.slider) this.slider.setAttribute("aria-valuetext", `${number(this.strength)} times the maximum, activation ${number(this.strength * this.most)}`);
    onchange();
  }
}

function start() {
  const form = document.querySelector("form.ask");
  const prompt = new PromptBox(find("text-box"), form.querySelectorAll("[name=kind]"), { most: data.most, ending: false, label: "The text to go on from" });
  const asking = new Asking(find("asked"));
  const stop = find("stop");
  const cards = [...document.querySelectorAll("[data-card]")].map((each) => new Card(each, keepCards));
  const places = new Places(form);
  let going = null;

  function keepCards() {
    keepInQuery({ f: cards.map((each) => each.named), mode: null, list: null, add: null });
    const all = cards.map((each) => each.named);
    // What leads to this page again leads to these strengths.
    for (const each of document.querySelectorAll("form[data-keeps-text]")) {
      each.querySelectorAll("[name=f]").forEach((field, place) => (field.value = all[place] ?? field.value));
    }
    for (const card of cards) {
      const query = new URLSearchParams(location.search);
      query.delete("f");
      for (const each of all) if (each !== card.named) query.append("f", each);
      card.drop.search = query.toString();
    }
  }

  const concepts = () => [...form.querySelectorAll("[name=concept]")].filter((each) => each.checked).map((each) => each.value);

  function options() {
    const { tokens, temperature } = form.elements;
    return { new_tokens: Number(tokens.value), temperature: Number(temperature.value), ...places.body, concepts: concepts(), logprobs: LIKELIEST };
  }

  async function write() {
    const written = prompt.value;
    if (!cards.length && !concepts().length) return asking.say("Add a feature first: by its number, or by words.");
    if (!written) return asking.say("Write a text to go on from first.");
    if (prompt.isTooLong) return asking.say(`${number(prompt.length, 3, true)} characters: at most ${number(data.most, 3, true)} can be sent.`);
    if (places.isEmpty) return asking.say("Say first which tokens are to be pushed at.");
    asking.say(""); // what was said of the writing before is over
    await keepInFragment("p", written);
    find("share").hidden = false;
    going?.abort();
    const mine = (going = new AbortController());
    const { shown: rows, calls: plan } = form.elements.sweep.checked ? swept() : seeded(Number(form.elements.seeds.value));
    find("written").hidden = false;
    find("rows").replaceChildren(...rows);
    find("pushed").textContent = "";
    find("held").textContent = "";
    find("chance").replaceChildren(make("p", { class: "quiet" }, "Point at a token, or walk with ← and →: how probable it was."));
    stop.disabled = false;
    const body = { ...begun(written), ...options(), sae: data.sae, stream: true };
    let left = plan.length;
    asking.say(`Writing ${left} of ${plan.length} …`);
    const waiting = [...plan];
    const writers = Array.from({ length: AT_ONCE }, async () => {
      for (let each = waiting.shift(); each && !mine.signal.aborted; each = waiting.shift()) {
        await one(each, body, mine.signal);
        left -= 1;
        if (left && !mine.signal.aborted) asking.say(`Writing ${left} of ${plan.length} …`);
      }
    });
    await Promise.all(writers);
    if (going !== mine) return;
    stop.disabled = true;
    asking.say(mine.signal.aborted ? "Stopped." : "All is written.");
  }

  /** One call of REST: the text with the push, and the one without where it is asked for. */
  async function one({ factor, seed, steered, plain }, body, signal) {
    const texts = [steered, plain].filter(Boolean);
    for (const each of texts) each.begin();
    try {
      const asked = { ...body, seed, compare: plain !== null, features: cards.map((each) => each.push(factor)) };
      const response = await patiently(() => send("POST", "/api/v1/inference/steer", { body: asked, signal }), signal, steered);
      for await (const { event, data: told } of events(response)) {
        if (event === "prompt") {
          find("pushed").textContent = places.said(told);
          find("held").textContent = (told.concepts ?? []).map(heldAgainst).join(" ");
        } else if (event === "token") (told.row === "steered" ? steered : plain).add(told);
        else if (event === "error") throw new Problem(told.status, { detail: told.detail }, null);
        else if (event === "end") {
          steered.end(ending(told.steered), { whole: true });
          plain?.end(ending(told.plain), { whole: true });
          return;
        }
      }
      throw new Problem(0, { detail: "The stream broke off." }, null);
    } catch (error) {
      const words = signal.aborted ? "stopped" : error instanceof Problem ? error.message : String(error);
      for (const each of texts) each.end(words, { whole: false });
      if (!signal.aborted && !(error instanceof Problem)) throw error;
    }
  }

  const look = (written, token) => showChance(find("chance"), written, token);

  function seeded(texts) {
    const calls = Array.from({ length: texts }, (_, seed) => {
      const plain = new Written(`Without, seed ${seed}`, look);
      const steered = new Written(`With, seed ${seed}`, look);
      markFirstDifference(steered, plain, true);
      return { factor: 1, seed, steered, plain, element: make("div", { class: "row" }, make("h2", {}, `seed ${seed}`), plain.figure("without"), steered.figure("with")) };
    });
    return { shown: calls.map((each) => each.element), calls };
  }

  function swept() {
    const plain = new Written("Times 0", look);
    const rows = FACTORS.map((factor) => {
      const steered = new Written(`Times ${factor}`, look);
      markFirstDifference(steered, plain, false);
      // The text without any push comes with one of the calls.
      return { factor, seed: 0, steered, plain: factor === 1 ? plain : null, element: alone(factor, steered) };
    });
    rows[0].element = make("div", {}, alone(0, plain), rows[0].element);
    // That call is the first.
    return { shown: rows.map((each) => each.element), calls: [...rows].sort((a, b) => (b.plain !== null) - (a.plain !== null)) };
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { tokens, temperature, seeds, sweep } = form.elements;
    keepInQuery({ tokens: tokens.value, temperature: temperature.value, seeds: seeds.value, ...places.query, c: concepts(), sweep: sweep.checked || null });
    keepCards();
    write();
  });
  stop.addEventListener("click", () => going?.abort());
  addEventListener("pagehide", () => going?.abort());
  sharing(find("share"));

  async function fromAddress() {
    carryFragment();
    const held = await inFragment("p");
    if (held) prompt.set(held);
    find("share").hidden = !held;
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

function alone(factor, written) {
  return make("div", { class: "row alone" }, make("h2", {}, `× ${number(factor)}`), written.figure(factor ? "with" : "without"));
}

function begun(written) {
  return written.messages ? { messages: written.messages } : { prompt: written.text };
}

const heldAgainst = ({ name, flagged, score, threshold }) =>
  `${name}: ${flagged ? "flagged, its features are deactivated" : "not flagged"} (score ${number(score)}, threshold ${number(threshold)}).`;

const ending = (how) => (how === "stop" ? "■ ended by the model" : "");

/** Asks again for what is busy, when it says, until that is stopped. */
async function patiently(ask, signal, written) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Problem) || error.retryAfter === null) throw error;
      for (let left = Math.ceil(error.retryAfter); left > 0 && !signal.aborted; left -= 1) {
        written.foot.textContent = `${error.message} Trying again in ${left} s.`;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      if (signal.aborted) throw error;
      written.foot.textContent = "";
    }
  }
}

function showChance(box, written, token) {
  const { text, logprob, top } = written.tokens[token];
  const other = written.beside?.tokens[token];
  const chance = (each) => `${shown(each.text) || "(part of a character)"} ${percent(Math.exp(each.logprob))}`;
  const beside = other && (written.parts === null || token <= written.parts) ? ` ${other.row === "plain" ? "Without" : "With"} the push this place has “${chance(other)}”.` : "";
  box.replaceChildren(
    make("p", {}, `${written.name}, token ${token + 1} `, make("span", { class: "token", dir: "auto" }, shown(text) || "(part of a character)"),
      `: log-probability ${signed(logprob)}, ${percent(Math.exp(logprob))}.${beside}`),
    make("p", { class: "chances" }, make("span", { class: "quiet" }, "likeliest here:"), ...top.map((each) => make("span", {}, make("span", { class: "token", dir: "auto" }, shown(each.text)), ` ${percent(Math.exp(each.logprob))}`))),
  );
}

scriptStarted();
if (data) start();
