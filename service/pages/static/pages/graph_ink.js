// What a graph is painted with: its frame (tokens below, layers at the left, the goals' names at the top), the shapes of
// its nodes and their colours.
import { colour } from "../lib/colour.js";
import { percent } from "../lib/format.js";
import { shown } from "../lib/tokens.js";
import { MARGIN } from "./graph_layout.js";

export const LEVELS = 7;
/** Of influence, from pale to strong. */
const FONT = "12px system-ui, sans-serif";
const LONGEST = 24;
/** Characters of a token that are written. */

/** A column for each token, every other one shaded. */
export function drawFrame(plot, ink) {
  const { laid, css, width, height } = plot;
  const [left, top] = [MARGIN.left, MARGIN.top];
  ink.font = FONT;
  const columns = laid.columns.map((each) => ({ words: token(plot.graph, each.position), from: Math.max(0, plot.across(each.left)), to: Math.min(width, plot.across(each.right)) }));
  const fits = ({ words, from, to }) => ink.measureText(words).width <= to - from - 4;
  const narrow = columns.some((each, place) => laid.columns[place].position >= 0 && each.to > each.from && !fits(each));
  columns.forEach((each, place) => {
    const { words, from, to } = each;
    if (to - from < 1) return;
    ink.fillStyle = css.band;
    if (place % 2 === 0) ink.fillRect(left + from, top, to - from, height);
    ink.fillStyle = css.ink;
    if (!narrow && fits(each)) {
      ink.textAlign = "center";
      ink.fillText(words, left + (from + to) / 2, top + height + 18);
    } else if (to - from >= 7) slanting(ink, words, left + (from + to) / 2, top + height);
  });
  layers(plot, ink);
}

function slanting(ink, words, x, y) {
  ink.save();
  ink.translate(x + 4, y + 8);
  ink.rotate(-Math.PI / 3.2);
  ink.textAlign = "right";
  let short = words;
  while (short.length > 3 && ink.measureText(short).width > 50) short = `${short.slice(0, -2)}…`;
  ink.fillText(short, 0, 6);
  ink.restore();
}

function layers({ laid, graph, css, height, view }, ink) {
  ink.textAlign = "right";
  ink.fillStyle = css.quiet;
  const every = Math.ceil(13 / (laid.tall * view.zoom));
  laid.rows.forEach(({ y: at, layer, attention }) => {
    const y = (at - view.y) * view.zoom;
    if (y < 0 || y > height) return;
    const own = () => (attention ? (every > 1 ? "" : "attn") : layer % every ? "" : short(graph, layer));
    const words = layer < 0 ? "inputs" : layer === graph.layers ? (graph.sites.length ? "metric" : "logits") : own();
    ink.fillText(words, MARGIN.left - 7, MARGIN.top + y + 4);
  });
}

/** A layer's number, or what a site is called in short: "3 mlp". */
const short = ({ sites }, layer) =>
  sites.length ? sites[layer].replace(/^blocks\.(\d+)\./, "$1 ").replace(/hook_|resid_|attn\.|mlp\.|_out$/g, "") : String(layer);

const token = ({ tokens }, position) => (position < 0 ? "biases" : shown(tokens[position] ?? "").slice(0, LONGEST).trim() || "␣");

/** Left of the squares of the goals, those of the most weight first, their weights: those of tokens are probabilities. */
export function nameGoals(plot, ink) {
  const { kind, influence, label } = plot.graph;
  const goals = [...kind.keys()].filter((i) => kind[i] === "logit").sort((a, b) => influence[b] - influence[a]);
  if (!goals.length) return;
  const [x, y] = [Math.min(...goals.map((i) => plot.spot(i)[0])) - 14, plot.spot(goals[0])[1]];
  if (y < 0 || y > plot.height) return;
  ink.font = `600 ${FONT}`;
  ink.textAlign = "right";
  let words = "";
  for (const i of goals) {
    const next = `${words && `${words}   `}${shown(label[i]).trim().slice(0, LONGEST)} ${percent(influence[i] * plot.goals)}`;
    if (ink.measureText(next).width > x - 10) break;
    words = next;
  }
  ink.lineWidth = 4;
  ink.lineJoin = "round";
  ink.strokeStyle = plot.css.paper;
  ink.strokeText(words, MARGIN.left + x, MARGIN.top + y + 4);
  ink.fillStyle = plot.css.ink;
  ink.fillText(words, MARGIN.left + x, MARGIN.top + y + 4);
}

/** `css`: variables of base.css; `ramps`: colours by shape and level, in the theme that is shown. */
export function inks() {
  const of = Object.fromEntries(["paper", "ink", "quiet", "own", "null", "plus", "minus", "accent", "field"].map((name) => [name, colour(name)]));
  const mixed = (to, share) => `rgb(${of.paper.map((each, i) => Math.round(each + (to[i] - each) * share)).join(" ")})`;
  const ramps = ["own", "null", "ink", "ink", "quiet", "quiet"].map((name) => Array.from({ length: LEVELS }, (_, level) => mixed(of[name], 0.38 + (0.62 * level) / (LEVELS - 1))));
  return { ramps, css: { ...Object.fromEntries(Object.entries(of).map(([name, each]) => [name, mixed(each, 1)])), band: mixed(of.field, 0.8) } };
}

/** Errors, positions and biases are hollow. */
export function painted({ css, ramps }, ink, path, shape, level) {
  const hollow = shape === 1 || shape > 3;
  ink.fillStyle = hollow ? css.paper : ramps[shape][level];
  ink.fill(path);
  if (!hollow) return;
  ink.strokeStyle = ramps[shape][level];
  ink.lineWidth = 1.3;
  ink.stroke(path);
}

/** Circles of features, diamonds of errors, squares of what has a token or is a logit. */
export function outline(path, shape, x, y, r) {
  if (shape === 0) {
    path.moveTo(x + r, y);
    path.arc(x, y, r, 0, 2 * Math.PI);
  } else if (shape === 1) {
    const d = r * 1.25;
    path.moveTo(x, y - d);
    for (const [a, b] of [[d, 0], [0, d], [-d, 0]]) path.lineTo(x + a, y + b);
    path.closePath();
  } else path.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
}
