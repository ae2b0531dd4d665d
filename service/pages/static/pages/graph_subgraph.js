// Pinned nodes and supernodes as boxes, the edges between them: layers from the bottom up, tokens from left to right.
import { plural, signed } from "../lib/format.js";
import { draw } from "../lib/state.js";
import { shown } from "../lib/tokens.js";

const [WIDE, TALL, ACROSS, UP, SIDE] = [168, 40, 26, 46, 84];
const WRITTEN = 14;
/** Sums are written on the edges where there are no more of them. */

/** `units`: {name, members (numbers), group}; gives the drawing and its links ({from, to, sum, n}, the largest first). */
export function subgraph(graph, units, here, look) {
  const links = linksBetween(graph, units);
  const spots = placed(graph, units);
  const width = Math.max(...spots.map(({ x }) => x)) + WIDE + 8 + (links.some(({ from, to }) => spots[to].y >= spots[from].y) ? SIDE : 0);
  const height = Math.max(...spots.map(({ y }) => y)) + TALL + 8;
  const most = links.length ? Math.abs(links[0].sum) || 1 : 1;
  const drawn = links.map((link) => drawnLink(link, spots, most));
  const boxes = units.map((unit, place) => box(graph, unit, spots[place], here, look));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Pinned nodes; the lists beside have them" }, ...drawn.map(({ path }) => path).reverse(), ...(drawn.length > WRITTEN ? [] : drawn.map(({ words }) => words)), ...boxes);
  return { svg, links };
}

/** Edges are summed over the members of a source, and averaged over those of a target by their influence. */
function linksBetween(graph, units) {
  const unitOf = new Map(units.flatMap(({ members }, place) => members.map((node) => [graph.at.get(node), place])));
  unitOf.delete(undefined);
  const flows = units.map(({ members }) => members.reduce((sum, node) => sum + (graph.influence[graph.at.get(node)] ?? 0), 0));
  const sums = new Map();
  for (const i of unitOf.keys()) {
    const own = unitOf.get(i);
    const part = flows[own] > 0 ? graph.influence[i] / flows[own] : 1 / units[own].members.length;
    for (const e of graph.into(i)) {
      const [from, to] = [unitOf.get(graph.from[e]), unitOf.get(i)];
      if (from === undefined || from === to) continue;
      const key = `${from} ${to}`;
      const link = sums.get(key) ?? { from, to, sum: 0, n: 0 };
      link.sum += graph.weight[e] * part;
      link.n += 1;
      sums.set(key, link);
    }
  }
  return [...sums.values()].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
}

/** Places of boxes: a row for each layer that is there, by the mean of a supernode's members. */
function placed(graph, units) {
  const means = units.map(({ members }, place) => {
    const at = members.map((node) => graph.at.get(node)).filter((i) => i !== undefined);
    const mean = (column) => at.reduce((sum, i) => sum + column[i], 0) / at.length;
    const level = (layer, i) => (graph.attended.size ? 2 * layer + (graph.branch[i] === "attention" ? 0 : 1) : layer);
    return at.length ? { place, layer: Math.round(mean(graph.layer.map(level))), token: mean(graph.position) } : { place, layer: -2, token: place };
  });
  const rows = [...new Set(means.map(({ layer }) => layer))].sort((a, b) => b - a);
  const fullest = Math.max(...rows.map((row) => means.filter(({ layer }) => layer === row).length));
  const spots = [];
  rows.forEach((row, level) => {
    const own = means.filter(({ layer }) => layer === row).sort((a, b) => a.token - b.token);
    const left = ((fullest - own.length) * (WIDE + ACROSS)) / 2;
    own.forEach(({ place }, at) => (spots[place] = { x: 4 + left + at * (WIDE + ACROSS), y: 4 + level * (TALL + UP) }));
  });
  return spots;
}

/** Edges go upwards from the top of a box to the bottom of another; those to a supernode at the same height or
 * below leave and enter at the right. */
function curve(a, b) {
  if (b.y >= a.y) {
    const [ax, ay, bx, by] = [a.x + WIDE, a.y + TALL / 2, b.x + WIDE, b.y + TALL / 2];
    const out = Math.max(ax, bx) + SIDE / 2;
    return { d: `M${ax} ${ay}C${out} ${ay} ${out} ${by} ${bx} ${by}`, x: (ax + bx) / 8 + out * 0.75 + 6, y: (ay + by) / 2, side: "" };
  }
  const [ax, bx, by] = [a.x + WIDE / 2, b.x + WIDE / 2, b.y + TALL];
  const half = (a.y - by) / 2;
  return { d: `M${ax} ${a.y}C${ax} ${a.y - half} ${bx} ${by + half} ${bx} ${by}`, x: (ax + bx) / 2 - 6, y: (a.y + by) / 2, side: " end" };
}

function drawnLink({ from, to, sum }, spots, most) {
  const share = Math.abs(sum) / most;
  const { d, x, y, side } = curve(spots[from], spots[to]);
  const path = draw("path", { d, class: sum < 0 ? "less" : "more", "stroke-width": 0.8 + 4.2 * share, "stroke-opacity": 0.4 + 0.6 * share });
  return { path, words: draw("text", { class: `weight${side}`, x, y: y + 4 }, signed(sum)) };
}

function box(graph, unit, { x, y }, here, look) {
  const name = shown(unit.name);
  const i = graph.at.get(unit.members[0]);
  const token = i !== undefined && graph.position[i] >= 0 ? ` at “${shown(graph.tokens[graph.position[i]] ?? "").trim().slice(0, 14)}”` : "";
  const of = unit.group ? plural(unit.members.length, "node") : i === undefined ? "" : `${graph.kind[i]}${token}`;
  const css = `unit${unit.group ? " group" : ""}${here !== null && unit.members.includes(here) ? " here" : ""}`;
  const element = draw("g", { class: css },
    draw("title", {}, name),
    draw("rect", { x, y, width: WIDE, height: TALL, rx: 6 }),
    draw("text", { x: x + 9, y: y + 17 }, name.length > 26 ? `${name.slice(0, 25)}…` : name),
    draw("text", { class: "of", x: x + 9, y: y + 32 }, of));
  element.addEventListener("click", () => look(unit));
  return element;
}
