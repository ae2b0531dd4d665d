// Where the nodes of a graph lie: tokens from left to right, layers from the bottom up, inputs below all, logits above;
// and which of them a key leads to.

const [LARGEST, SMALLEST] = [22, 3];
const GAP = 8;
/** Between tokens, in pixels. */
const KINDS = ["feature", "error", "token", "logit", "position", "bias"];

export const MARGIN = { left: 52, right: 14, top: 12, bottom: 58 };

/** A drawing with `at` (place by number), `from` and `to` (edges by place), `into(place)` and `out(place)` (edges of a node), `drawn` (how many it came with),
 * `attended` (the layers whose attention has nodes, which stand in a row of their own below the MLP's). */
export function columnsOf(drawing) {
  const n = drawing.node.length;
  const at = new Map(drawing.node.map((number, place) => [number, place]));
  const [from, to] = [drawing.source, drawing.target].map((ends) => Int32Array.from(ends, (number) => at.get(number)));
  const shape = Uint8Array.from(drawing.kind, (kind) => KINDS.indexOf(kind));
  const attended = new Set(drawing.layer.filter((_, i) => drawing.branch[i] === "attention"));
  return { drawn: from.length, sites: [], ...drawing, n, at, shape, attended, from, to, into: byNode(to, n), out: byNode(from, n) };
}

/** Edges of each node, in the order of the drawing (those along which most flows first). */
function byNode(ends, n) {
  const start = new Int32Array(n + 1);
  for (const end of ends) start[end + 1] += 1;
  for (let i = 0; i < n; i += 1) start[i + 1] += start[i];
  const [next, edges] = [start.slice(), new Int32Array(ends.length)];
  ends.forEach((end, e) => (edges[next[end]++] = e));
  return (node) => edges.subarray(start[node], start[node + 1]);
}

/** Rows from the bottom: inputs, layers (attention below the MLP), logits. */
function levelsOf({ layers, attended }) {
  const inner = Array.from({ length: layers }, (_, layer) => [...(attended.has(layer) ? [{ layer, attention: true }] : []), { layer, attention: false }]);
  return [{ layer: -1, attention: false }, ...inner.flat(), { layer: layers, attention: false }];
}

function rowsOf(graph, levels) {
  const above = new Map(levels.map(({ layer }, row) => [layer, row]));
  return (i) => above.get(Math.max(-1, Math.min(graph.layers, graph.layer[i]))) - (graph.branch[i] === "attention" ? 1 : 0);
}

/**
 * Places for `graph` in `width` by `height` pixels: `x`, `y` and `size` (a radius) of each node, `columns`
 * ({position, left, right}) and `rows` ({y, layer, attention}).  Nodes of one token and layer stand in a block, the
 * most influence first.
 */
export function laidOut(graph, width, height) {
  const levels = levelsOf(graph);
  const [rows, rowOf] = [levels.length, rowsOf(graph, levels)];
  const positions = [...new Set([...graph.tokens.keys(), ...graph.position])].sort((a, b) => a - b);
  const column = new Map(positions.map((position, place) => [position, place]));
  const cells = new Map();
  for (let i = 0; i < graph.n; i += 1) {
    const key = column.get(graph.position[i]) * rows + rowOf(i);
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(i);
  }
  const fullest = new Int32Array(positions.length);
  for (const [key, nodes] of cells) {
    const place = Math.floor(key / rows);
    fullest[place] = Math.max(fullest[place], nodes.length);
  }
  const tall = height / rows;
  const gap = Math.min(GAP, (0.3 * width) / positions.length);
  const { pitch, lines, wide } = pitched(fullest, width, tall, gap, positions[0] < 0);
  let right = 0;
  const columns = wide.map((each, place) => ({ position: positions[place], left: right, right: (right += each) }));
  const [x, y, size] = [new Float32Array(graph.n), new Float32Array(graph.n), new Float32Array(graph.n)];
  const most = Math.max(...graph.influence, 1e-12);
  for (const [key, nodes] of cells) {
    const [place, row] = [Math.floor(key / rows), key % rows];
    nodes.sort((a, b) => graph.influence[b] - graph.influence[a]);
    const middle = [(columns[place].left + columns[place].right) / 2, height - (row + 0.5) * tall];
    block(nodes, middle, pitch, lines, columns[place].right - columns[place].left - gap, { x, y });
    for (const i of nodes) size[i] = pitch * (0.25 + 0.22 * (graph.influence[i] / most) ** 0.4);
  }
  return { x, y, size, columns, rows: levels.map((each, row) => ({ ...each, y: height - (row + 0.5) * tall })), tall, pitch };
}

/** The largest distance of nodes at which all columns fit side by side. */
function pitched(fullest, width, tall, gap, biases) {
  for (let pitch = LARGEST; ; pitch -= 0.5) {
    const lines = Math.max(1, Math.floor((tall * 0.9) / pitch));
    const own = Array.from(fullest, (count) => Math.max(1, Math.ceil(count / lines)) * pitch + gap);
    const sum = own.reduce((total, each) => total + each, 0);
    if (sum > width && pitch > SMALLEST) continue;
    // What is left is shared out; what does not fit is pushed together.
    const shared = own.length - (biases ? 1 : 0) || 1;
    const more = sum < width ? (width - sum) / shared : 0;
    const wide = own.map((each, place) => (sum >= width ? (each * width) / sum : biases && place === 0 && own.length > 1 ? each : each + more));
    return { pitch, lines, wide };
  }
}

/** Nodes of one cell around its middle, line by line. */
function block(nodes, [cx, cy], pitch, lines, room, { x, y }) {
  const used = Math.min(lines, Math.max(1, Math.ceil(Math.sqrt(nodes.length / 3)), Math.ceil((nodes.length * pitch) / Math.max(room, pitch))));
  const across = Math.ceil(nodes.length / used);
  const step = Math.min(pitch, room / across);
  nodes.forEach((i, place) => {
    const [line, at] = [Math.floor(place / across), place % across];
    const inLine = Math.min(across, nodes.length - line * across);
    x[i] = cx + (at - (inLine - 1) / 2) * step;
    y[i] = cy + (line - (used - 1) / 2) * pitch;
  });
}

const SIDES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The place to go to from `from` by a key of the keyboard; null where the key means nothing, or nothing is there. */
export function stepped(plot, event, from) {
  if (event.ctrlKey || event.altKey || event.metaKey) return null;
  if (event.key === "Home" || event.key === "End" || (event.key in SIDES && from === null)) return strongest(plot, event.key !== "Home");
  if (!(event.key in SIDES)) return null;
  if (event.shiftKey && event.key === "ArrowUp") return along(plot, plot.graph.out(from), plot.graph.to);
  if (event.shiftKey && event.key === "ArrowDown") return along(plot, plot.graph.into(from), plot.graph.from);
  return beside(plot, from, ...SIDES[event.key]);
}

/** The goal of the most influence, or of all others the node of the most. */
function strongest(plot, last) {
  const { influence, kind } = plot.graph;
  let best = null;
  for (let i = 0; i < plot.n; i += 1) {
    if (!plot.isKept(i) || (kind[i] === "logit") !== last) continue;
    if (best === null || influence[i] > influence[best]) best = i;
  }
  return best;
}

/** The nearest node in a direction; what lies askew counts as farther. */
function beside(plot, from, right, down) {
  const { x, y } = plot.laid;
  let [best, next] = [Infinity, null];
  for (let i = 0; i < plot.n; i += 1) {
    if (i === from || !plot.isKept(i)) continue;
    const [a, b] = [x[i] - x[from], y[i] - y[from]];
    const [ahead, askew] = right ? [a * right, Math.abs(b)] : [b * down, Math.abs(a)];
    if (ahead < 0.5) continue;
    const distance = ahead + 2.5 * askew;
    if (distance < best) [best, next] = [distance, i];
  }
  return next;
}

function along(plot, edges, other) {
  const { weight } = plot.graph;
  let best = null;
  for (const e of edges) if (plot.isKept(other[e]) && (best === null || Math.abs(weight[e]) > Math.abs(weight[best]))) best = e;
  return best === null ? null : other[best];
}
