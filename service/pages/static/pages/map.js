// /saes/{sae}/map: features as points; what is pointed at shows its true neighbours, areas are chosen.
import * as api from "../lib/api.js";
import { count, number, plural } from "../lib/format.js";
import { replacePart } from "../lib/fragment.js";
import { askList, ontoList } from "../lib/gather.js";
import { address } from "../lib/http.js";
import { looker } from "../lib/looked_at.js";
import { kindButtons, kindsOf, ofKind } from "../lib/kinds.js";
import { currentRow } from "../lib/rows.js";
import { SCALES } from "../lib/scales.js";
import { Scatter } from "../lib/scatter.js";
import { kindPalette, levelsOf, shades, square, strip, UNKNOWN } from "../lib/shades.js";
import { announce, given, make } from "../lib/state.js";

const { sae, axes, kinds, indexed } = given("data");
const form = document.getElementById("asked");
const box = document.getElementById("plot");
const drawn = document.getElementById("drawn");
const loaded = new Map();
/** Names of the kinds of the column `tag`. */
let tags = [];
/** By column, scorer and what matches: Float32Array of all features. */
let picked = [];
/** What the form's words and tag narrow, and what of it is lit up: a 1 for each feature that is; null for all. */
let matching = null;
let lit = null;
/** The kind that alone is lit up. */
let only = null;
/** What colours say, if anything. */
let shade = null;
let colours = null;
let asking = null;

if (indexed) enliven();

function enliven() {
  for (const each of document.querySelectorAll("[data-no-script]")) each.hidden = true;
  document.getElementById("mapped").hidden = false;
  const plot = new Scatter(box, { hovered: (index) => looks.hover(index), chosen: (index) => looks.choose(index), enclosed: (indices) => pick(plot, indices) });
  const looks = looker(document.getElementById("looked"), sae, plot);
  const repaint = () => {
    colours = shades();
    plot.paint(inks());
    legend(plot);
  };
  repaint();
  new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  form.addEventListener("change", (event) => {
    together(event.target);
    ask(plot);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(plot);
  });
  document.getElementById("find").addEventListener("submit", (event) => {
    event.preventDefault();
    looks.choose(Number(event.target.elements.feature.value));
  });
  moving(plot);
  choosing(plot);
  // Rows of the table are gone through by keyboard, and seen on the map.
  currentRow(() => document.getElementById("table"), { what: "feature", changed: (row) => looks.choose(Number(row.dataset.index)) });
  show(plot);
}

/** A layout has two axes: with one of them goes the other, for a measured one as well. */
function together(changed) {
  const { x, y } = form.elements;
  if (changed !== x && changed !== y) return;
  const other = changed === x ? y : x;
  const [of, pair, usual] = changed === x ? ["layout_x", "layout_y", "maximum"] : ["layout_y", "layout_x", "density"];
  if (changed.value.startsWith("layout_")) [changed.value, other.value] = [of, pair];
  else if (other.value.startsWith("layout_")) other.value = usual;
}

/** The form as it stands becomes the address, the map and the table. */
async function ask(plot) {
  const query = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
  const path = address(`/saes/${encodeURIComponent(sae)}/map`, query);
  history.replaceState(null, "", path);
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  try {
    await Promise.all([show(plot, signal), replacePart(path, "#part", signal)]);
  } catch (problem) {
    if (problem.name !== "AbortError") drawn.textContent = problem.message;
  }
}

async function show(plot, signal) {
  const wanted = Object.fromEntries(new FormData(form));
  const names = [wanted.x, wanted.y, ...(wanted.colour === "none" ? [] : [wanted.colour])];
  const narrowed = Boolean(wanted.q || wanted.tag);
  drawn.textContent = "Loading…";
  let columns;
  try {
    columns = await columnsOf([...names, ...(narrowed ? ["matches"] : [])], wanted, signal);
  } catch (problem) {
    if (problem.name !== "AbortError") drawn.textContent = problem.message;
    return;
  }
  const [x, y] = columns;
  matching = narrowed ? Uint8Array.from(columns.at(-1), (value) => (value === 1 ? 1 : 0)) : null;
  [lit, only] = [matching, null];
  const titled = (name) => (name === "score" ? `${axes.score.name} (${wanted.scorer})` : axes[name].name);
  shade = shadeOf(wanted.colour, columns[2], titled);
  plot.paint(inks());
  plot.set({
    x, y, lit,
    scales: [axes[wanted.x].scale, axes[wanted.y].scale],
    names: [titled(wanted.x), titled(wanted.y)],
    levels: shade?.levels ?? new Uint8Array(x.length).fill(150),
    order: shade?.order,
  });
  const faithful = document.getElementById("faithful");
  if (faithful !== null) faithful.hidden = !(wanted.x.startsWith("layout_") && wanted.y.startsWith("layout_"));
  says.of = [wanted, titled];
  says(plot);
  legend(plot);
}

/** Levels of a column, and what its legend needs; null where colours say nothing. */
function shadeOf(name, values, titled) {
  if (name === "none") return null;
  if (name in kinds) return { ...kindsOf(values, name === "tag" ? tags : kinds[name].of), name, kinds: true, quiet: kinds[name].of.indexOf(kinds[name].quiet) };
  return { ...levelsOf(values, SCALES[axes[name].scale].to), name, title: titled(name) };
}

function inks() {
  if (!shade?.kinds) return colours;
  const palette = kindPalette(colours.palette, shade.names.length, shade.quiet);
  if (only !== null && only !== shade.quiet) palette[256] = palette[1 + only];
  return { ...colours, palette };
}

/** Lights up one kind alone; the same again, all. */
function lightKind(plot, kind) {
  only = only === kind ? null : kind;
  lit = only === null ? matching : ofKind(shade.levels, only, matching);
  plot.lit = lit;
  plot.paint(inks());
  says(plot);
  legend(plot);
  document.querySelector(`[data-kind="${kind}"]`)?.focus();
}

function says(plot) {
  const [{ x, y }, titled] = says.of;
  document.querySelector('[data-map="lit"]').hidden = lit === null;
  const left = plot.n - plot.drawn;
  const zero = [x, y].some((name) => axes[name].scale === "log");
  const laidOut = [x, y].some((name) => axes[name].scale === "layout");
  const words = [`${plural(plot.drawn, "feature")} drawn.`];
  if (plot.drawn === 0) words[0] = `Of no feature both are known: ${titled(x)}, ${titled(y)}. Choose other axes.`;
  else if (left) words.push(`${count(left)} ${left === 1 ? "is" : "are"} not: ${laidOut ? "left out of the layout, or not known," : zero ? "zero, or not known," : "not known"} on one of the axes.`);
  if (lit !== null) {
    const hits = lit.reduce((sum, each) => sum + each, 0);
    const seen = lit.reduce((sum, each, i) => sum + (each && !Number.isNaN(plot.u[i]) ? 1 : 0), 0);
    words.push(`${count(hits)} lit up${seen < hits ? `, ${count(hits - seen)} of them not drawn` : ""}.`);
  }
  drawn.textContent = words.join(" ");
}

/** The columns of these names, in their order, from the server where they are not here yet. */
async function columnsOf(names, { scorer, q, tag }, signal) {
  const key = (name) => JSON.stringify([name, name === "score" ? scorer : "", ...(name === "matches" ? [q, tag] : [])]);
  const missing = [...new Set(names)].filter((name) => !loaded.has(key(name)));
  if (missing.length) {
    const query = { column: missing, scorer, ...(missing.includes("matches") ? { q, tag } : {}) };
    const answer = await api.featuresColumns(sae, { query, signal });
    const given = answer.headers.get("X-Columns").split(",");
    if (missing.includes("tag")) {
      const sent = answer.headers.get("X-Tags");
      tags = [...(sent ? sent.split(",").map(decodeURIComponent) : []), "other tags"];
    }
    const all = new Float32Array(await answer.arrayBuffer());
    const n = all.length / given.length;
    given.forEach((name, place) => loaded.set(key(name), all.subarray(place * n, (place + 1) * n)));
  }
  return names.map((name) => loaded.get(key(name)));
}

function legend(plot) {
  const parts = [];
  if (shade?.kinds) parts.push(...kindButtons(shade, inks().palette, only, (kind) => lightKind(plot, kind)));
  if (shade?.kinds) {
    if (lit !== null && only === null) parts.push(make("span", {}, square(colours.palette[256]), " lit up"));
  } else if (lit !== null) parts.push(make("span", {}, square(colours.palette[256]), " lit up"));
  else if (shade && Number.isFinite(shade.low)) {
    const { from } = SCALES[axes[shade.name].scale];
    parts.push(make("span", {}, `${shade.title} ${number(from(shade.low))} `, strip(colours.palette), ` ${number(from(shade.high))}`));
  }
  if (shade && !shade.kinds && lit === null) parts.push(make("span", {}, square(colours.palette[UNKNOWN]), " not known"));
  if (picked.length) parts.push(make("span", {}, square(colours.palette[257]), " chosen"));
  document.getElementById("legend").replaceChildren(...parts);
}

function moving(plot) {
  const buttons = { in: () => plot.zoom(1.5), out: () => plot.zoom(1 / 1.5), all: () => plot.showAll() };
  for (const [name, action] of Object.entries(buttons)) {
    document.querySelector(`[data-map="${name}"]`).addEventListener("click", action);
  }
  const arrows = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
  box.addEventListener("keydown", (event) => {
    if (!(event.key in arrows) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    plot.pan(...arrows[event.key]);
  });
}

function choosing(plot) {
  const lasso = document.querySelector('[data-map="lasso"]');
  lasso.addEventListener("click", () => {
    plot.choosing = !plot.choosing;
    lasso.setAttribute("aria-pressed", String(plot.choosing));
    box.classList.toggle("choosing", plot.choosing);
  });
  const on = (name, action) => document.querySelector(`[data-map="${name}"]`).addEventListener("click", action);
  on("view", () => pick(plot, plot.inView()));
  on("lit", () => pick(plot, [...lit.keys()].filter((index) => lit[index])));
  on("none", () => pick(plot, []));
  on("list", async () => {
    const list = await askList();
    if (list === null) return;
    const said = document.getElementById("said");
    said.textContent = "Adding…";
    try {
      await ontoList(list, sae, picked);
      const link = make("a", { href: address(`/lists/${encodeURIComponent(list.name)}`) }, list.name);
      said.replaceChildren(`${count(picked.length)} are on the list `, link, ".");
    } catch (problem) {
      said.replaceChildren(make("span", { class: "error" }, problem.errors?.[0]?.message ?? problem.message));
    }
  });
}

function pick(plot, indices) {
  picked = indices;
  plot.pick(indices);
  legend(plot);
  document.getElementById("chosen").hidden = indices.length === 0;
  document.getElementById("chosen-count").textContent = `${plural(indices.length, "feature")} chosen`;
  document.getElementById("said").replaceChildren();
  announce(indices.length ? `${plural(indices.length, "feature")} chosen` : "No feature is chosen");
}

