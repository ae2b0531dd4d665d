// /try: sends the text to be read, shows its tokens, the features of one of them, and pinned features.
import * as api from "../lib/api.js";
import { Asking, carryFragment, inFragment, keepInFragment, PromptBox, scriptStarted, sentByKeys, sharing } from "../lib/ask.js";
import { density, number, percent, plural } from "../lib/format.js";
import { address } from "../lib/http.js";
import { Lanes } from "../lib/lanes.js";
import { key, Reading } from "../lib/reading.js";
import { announce, draw, given, keepInQuery, make } from "../lib/state.js";
import { TokenText } from "../lib/token_text.js";
import { shown } from "../lib/tokens.js";

const MOST_PINS = 9;
const data = given("data");
const find = (name) => document.querySelector(`[data-${name}]`);

function start() {
  const form = document.querySelector("form.ask");
  const prompt = new PromptBox(find("text-box"), form.querySelectorAll("[name=kind]"), { most: data.most, label: "The text to be read" });
  const asking = new Asking(find("asked"));
  const lanesAsked = new Asking(make("p"));
  const read = find("read");
  const panel = find("panel");
  const state = { reading: null, pins: pinsOf(new URLSearchParams(location.search).getAll("pin")), at: null };

  const text = new TokenText(read, {
    look: (token) => {
      showPanel(panel, state, token, pin);
      lanes.look(token);
    },
    choose: (token) => {
      keepInQuery({ at: token });
      say(state.reading, token);
    },
  });
  const lanes = new Lanes(find("lanes"), { go: (token) => text.hold(token), drop: pin });

  function recolour() {
    if (!state.reading) return;
    const [shades, words] = state.reading.shades(find("colour").value, state.pins[0]);
    text.colour(shades);
    find("scale").textContent = words;
  }

  /** Pins a feature, or lets go of it. */
  async function pin(feature) {
    const without = state.pins.filter((each) => each !== feature);
    const more = without.length === state.pins.length;
    if (more && without.length >= MOST_PINS) {
      announce(`${MOST_PINS} features can be pinned.`);
      return;
    }
    state.pins = more ? [...without, feature] : without;
    keepInQuery({ pin: state.pins.map(nameOfPin) });
    if (more && !state.reading.lanes.has(feature)) {
      const answer = await lanesAsked.run("Following", (signal) => api.inferenceRead({ body: question(state.prompt, [feature], 1), signal }));
      if (answer) state.reading.follow(answer);
      else state.pins = without;
    }
    showPins();
  }

  function showPins() {
    lanes.show(state.reading, state.pins, text.at);
    const steer = pinnedBySae(state.pins).map(([sae, indices]) =>
      make("a", { href: address("/steer", { sae: data.saes[sae], f: indices.map((each) => `${each}=1`) }) },
        `Steer with ${indices.length > 1 ? "these" : "it"}${data.saes.length > 1 ? ` in ${data.saes[sae]}` : ""}`));
    if (steer.length) find("lanes").append(make("p", { class: "actions" }, ...steer));
    if (text.at !== null) showPanel(panel, state, text.at, pin);
    recolour();
  }

  function question(given, pins, most) {
    const follow = new Map(pinnedBySae(pins));
    return {
      ...given,
      saes: data.saes.map((sae, number) => ({ sae, follow: follow.get(number) ?? null })),
      top_k: most ?? Number(form.elements.top_k.value),
      order: form.elements.sort.value,
    };
  }

  async function ask({ at = 0 } = {}) {
    const written = prompt.value;
    if (!written) {
      asking.say("Write a text first.");
      return;
    }
    if (prompt.isTooLong) {
      asking.say(`${number(prompt.length, 3, true)} characters: at most ${number(data.most, 3, true)} can be sent.`);
      return;
    }
    await keepInFragment("t", written);
    find("share").hidden = false;
    const begun = performance.now();
    const answer = await asking.run("Reading", (signal) => api.inferenceRead({ body: question(written, state.pins), signal }));
    if (!answer) return;
    const seconds = (performance.now() - begun) / 1000;
    Object.assign(state, { reading: new Reading(answer), prompt: written });
    state.reading.follow(answer);
    find("reading").hidden = false;
    text.show(answer.tokens.text, restOf(answer, written));
    showPins();
    text.hold(Math.max(0, Math.min(at, answer.tokens.text.length - 1)));
    asking.say(`${plural(answer.tokens.text.length, "token")} read by ${data.saes.join(", ")} in ${number(seconds, 2)} s.`);
    document.dispatchEvent(new CustomEvent("monosemy:read"));
  }

  prompt.onchange = () => {
    find("counted").textContent = prompt.length > data.most / 2 ? `${number(prompt.length, 3, true)} of ${number(data.most, 3, true)} characters` : "";
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepInQuery({ at: null });
    ask();
  });
  for (const name of ["top_k", "sort"]) {
    form.elements[name].addEventListener("change", () => {
      keepInQuery({ [name]: form.elements[name].value });
      if (state.reading) ask({ at: text.at });
    });
  }
  find("colour").addEventListener("change", () => {
    keepInQuery({ colour: find("colour").value });
    recolour();
  });
  sentByKeys(form);
  sharing(find("share"));

  async function fromAddress() {
    carryFragment();
    const held = await inFragment("t");
    if (!held) return;
    prompt.set(held);
    await ask({ at: Number(new URLSearchParams(location.search).get("at") ?? 0) });
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

/** What the context did not hold; of a chat its text is not known. */
function restOf({ tokens, left_out: leftOut }, { text }) {
  if (!leftOut) return null;
  const words = ` the context ends here: ${plural(leftOut, "token")} not read `;
  return { words, text: text ? text.slice(tokens.text.join("").length) : "" };
}

function showPanel(panel, state, token, pin) {
  const { reading, pins } = state;
  const rows = reading.rows(token);
  const parts = [
    make("h2", {}, `token ${token + 1} `, make("span", { class: "token", dir: "auto" }, shown(reading.tokens.text[token]) || "(empty)"),
      make("span", { class: "quiet" }, ` id ${reading.tokens.id[token]}`)),
  ];
  reading.saes.forEach((sae, number) => {
    const unexplained = reading.unexplained[number];
    const own = rows.filter((each) => each.sae === number);
    const facts = [reading.fires[number] ? plural(reading.fires[number][token], "feature") : null,
      unexplained ? `${percent(unexplained[token])} unexplained` : null].filter(Boolean).join(", ");
    parts.push(make("h3", {}, make("span", {}, sae.name), make("span", { class: "quiet", title: "Squared distance of the reconstruction from the activations, over that of the SAE's bias alone." }, facts)));
    parts.push(own.length ? tableOf(sae, own, pins, pin, rows) : make("p", { class: "quiet" }, "Nothing fires here."));
  });
  const focused = panel.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  panel.replaceChildren(...parts);
  if (focused) panel.querySelector(`[data-key="${focused}"]`)?.focus();
}

function tableOf(sae, own, pins, pin, all) {
  const lines = own.map((row) => {
    const nth = all.indexOf(row) + 1;
    const feature = key(row.sae, row.index);
    const isPinned = pins.includes(feature);
    const button = make("button", {
      type: "button", class: "pin", "aria-pressed": String(isPinned), "data-key": nth <= 9 ? nth : null,
      "data-says": `pin feature ${row.index}`, "aria-label": `${isPinned ? "Unpin" : "Pin"} feature ${row.index}`,
      onclick: () => pin(feature),
    }, nth <= 9 ? String(nth) : "·");
    return make("tr", {},
      make("td", {}, button),
      make("th", { scope: "row", class: "n" }, make("a", { href: address(`/saes/${encodeURIComponent(sae.name)}/features/${row.index}`) }, String(row.index))),
      make("td", { class: "label" }, shown(row.label ?? "not indexed")),
      make("td", { class: "n" }, number(row.activation)),
      make("td", { class: "n" }, row.share === null ? "–" : percent(row.share), bar(row.share ?? 0)),
      make("td", { class: "n" }, density(row.density)));
  });
  return make("table", {},
    make("thead", {}, make("tr", {}, make("th", {}, make("span", { class: "unseen" }, "pin")), make("th", { class: "n" }, make("span", { class: "unseen" }, "feature")),
      make("th", {}, "fires on"), make("th", { class: "n" }, "activation"), make("th", { class: "n", title: "Share of the feature's own maximum over the indexed text" }, "of max."),
      make("th", { class: "n", title: "Share of all indexed tokens on which it fires" }, "density"))),
    make("tbody", {}, ...lines));
}

function bar(share) {
  const svg = draw("svg", { class: "share", viewBox: "0 0 56 5", width: 56, height: 5, "aria-hidden": "true" });
  svg.append(draw("rect", { class: "rail", width: 56, height: 5 }), draw("rect", { width: 56 * Math.min(1, share), height: 5 }));
  return svg;
}

let saying;
/** For screen readers, once the keyboard rests. */
function say(reading, token) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    const [first] = reading.rows(token);
    const feature = first ? `: feature ${first.index}, ${shown(first.label ?? "not indexed")}, ${number(first.activation)}` : ": nothing fires";
    announce(`Token ${token + 1}, ${reading.tokens.text[token]}${feature}`);
  }, 600);
}

/** `42`, or `42@name` for a feature of another SAE than the first; what no SAE has is left out. */
function pinsOf(names) {
  return names.flatMap((name) => {
    const [index, sae] = name.split(/@(.*)/s);
    const number = sae === undefined ? 0 : data.saes.indexOf(sae);
    const isThere = /^\d+$/.test(index) && number >= 0 && Number(index) < data.sizes[number];
    return isThere ? [key(number, Number(index))] : [];
  }).slice(0, MOST_PINS);
}

function nameOfPin(pin) {
  const [sae, index] = pin.split(":");
  return sae === "0" ? index : `${index}@${data.saes[Number(sae)]}`;
}

/** `[SAE, indices]` of each that has some. */
function pinnedBySae(pins) {
  const indices = new Map();
  for (const pin of pins) {
    const [sae, index] = pin.split(":").map(Number);
    indices.set(sae, [...(indices.get(sae) ?? []), index]);
  }
  return [...indices];
}

scriptStarted();
if (data) start();
