// /graphs/{graph}: the drawing, the node that is looked at beside it, pins and supernodes, how much is shown.
import { count, fixed, percent, plural } from "../lib/format.js";
import { replacePart } from "../lib/fragment.js";
import { address, call } from "../lib/http.js";
import { given, keepInQuery } from "../lib/state.js";
import { GraphCanvas } from "./graph_canvas.js";
import { columnsOf, stepped } from "./graph_layout.js";
import { offerHeads } from "./graph_node.js";
import { apart, Pins, pinsFrom, pinsInQuery } from "./graph_pins.js";

const data = given("data");
const REST_MS = 120;
/** A slider rests so long before the server prunes anew. */
const find = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
/** What the address has, or an uploaded file; `node` is a number of the stored graph, not a place in the drawing. */
const state = { node: query.has("node") ? Number(query.get("node")) : null, ...(query.has("pinned") || query.has("groups") ? pinsFrom(query) : apart(data.marks)) };
const marked = data.marks.pinned.length + data.marks.groups.length > 0;
const form = find("prune");
let graph = null;
let completing = Promise.resolve();
let [asking, looking, timer, steering] = [null, null, null, null];

for (const each of document.querySelectorAll("[data-no-script]")) each.hidden = true;
find("seen").hidden = false;
const plot = new GraphCanvas(find("plot"), { goals: data.goals, hovered: (i) => hover(i), chosen: (i) => i !== null && pin(i) });
const pins = new Pins(state, data, { changed: pinned, look });
const repaint = () => plot.paint();
new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
wires();
load();

async function load() {
  asking?.abort();
  asking = new AbortController();
  const share = (name) => (form.elements[name].value < 1 ? form.elements[name].value : null);
  const shares = { nodes: share("nodes"), edges: share("edges") };
  try {
    graph = columnsOf(await call("GET", `/api/v1/graphs/${data.id}/drawing`, { query: shares, signal: asking.signal }));
  } catch (problem) {
    if (problem.name !== "AbortError") say(problem.message);
    return;
  }
  keepInQuery(shares);
  plot.set(graph);
  if (data.steerable && query.has("edit")) change([]).then(() => steering.draw());
  told();
  pinned();
  if (state.node !== null && plot.marked === null) look(state.node);
  else say(`${plural(graph.n, "node")}, ${plural(graph.edges, "edge")}.`);
}

/** How much is kept, what chance keeps, and the scores of what is shown, into the words that the server made. */
function told() {
  const { kept, drawn, edges, of_edges, edge_share, edge_chance, replacement, completeness } = graph;
  const { value, low, high } = kept.of_chance;
  const tell = (words, figures) => Object.entries(figures).forEach(([name, each]) => (document.querySelector(`[data-is="${name}"]`).textContent = words(each)));
  tell(percent, { influence: kept.influence, chance: value, low, high, edge_share, edge_chance });
  tell(count, { nodes: kept.nodes, of_nodes: kept.of_nodes, drawn, edges, of_edges });
  tell((score) => fixed(score, 3), { replacement, completeness });
}

function say(words) {
  find("said").textContent = words;
}

/** Under the pointer; what was chosen is shown again where nothing is. */
function hover(i) {
  const own = state.node === null ? null : (graph?.at.get(state.node) ?? null);
  const next = i ?? own;
  if (graph === null || next === plot.marked) return;
  plot.mark(next);
  if (next !== null) say(plot.says(next));
}

/** A node by its number: marked, told, its edges and its feature beside the drawing. */
async function look(node) {
  state.node = node;
  keepInQuery({ node });
  const i = graph?.at.get(node) ?? null;
  plot.mark(i);
  if (i !== null) plot.reveal(i);
  say(i === null ? `Node ${node} is not shown.` : plot.says(i));
  for (const row of document.querySelectorAll("[data-row]")) row.classList.toggle("here", row.dataset.row === String(node));
  await Promise.all([beside(`/graphs/${data.id}/nodes/${node}`), complete(node)]);
  if (graph !== null) pins.show(graph, state.node);
}

/** Of a graph with more edges than are drawn, those of nodes that are looked at or pinned are asked for, one call after
 * the other. */
function complete(...nodes) {
  completing = completing.then(async () => {
    const own = graph;
    if (own === null || own.drawn >= own.edges || form.elements.nodes.value < 1 || form.elements.edges.value < 1) return;
    const { withEdges } = await import("./graph_more.js");
    const more = await withEdges(own, data.id, nodes);
    if (graph !== own) return;
    Object.assign(own, more);
    plot.over();
  }).catch((problem) => say(problem.message));
  return completing;
}

async function beside(path) {
  looking?.abort();
  looking = new AbortController();
  try {
    const part = await replacePart(path.startsWith("/graphs") ? address(path) : path, "#node", looking.signal);
    part.querySelector("[data-pin-here]").hidden = false;
    offerHeads(part.querySelector("#heads"));
    button();
  } catch (problem) {
    if (problem.name !== "AbortError") find("node").textContent = problem.message;
  }
}

function button() {
  for (const each of document.querySelectorAll("[data-pin]")) each.textContent = pins.has(Number(each.dataset.pin)) ? "Unpin" : "Pin";
}

function pin(i) {
  pins.toggle(graph.node[i]);
  look(graph.node[i]);
}

/** Features to be changed in the prompt, by their nodes; what does that is loaded when it is asked for. */
async function change(nodes) {
  const { Steering } = await import("./graph_steer.js");
  steering ??= new Steering(data, { graph: () => graph, look });
  if (nodes.length) steering.add(nodes);
}

function pinned() {
  keepInQuery(pinsInQuery(state, marked ? "none" : null));
  plot.pins = new Map([...pins.all].map(([node, group]) => [graph?.at.get(node), group]).filter(([i]) => i !== undefined));
  complete(...pins.all.keys()).then(() => graph !== null && pins.show(graph, state.node));
  plot.over();
  button();
}

function wires() {
  form.addEventListener("input", (event) => {
    const { name, value } = event.target;
    document.querySelector(`[data-share="${name}"]`).textContent = percent(Number(value));
    if (name === "nodes" && graph !== null) narrowing().then(({ preview }) => preview(plot, graph, Number(value)));
    clearTimeout(timer);
    timer = setTimeout(load, REST_MS);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const box = find("plot");
  box.addEventListener("keydown", (event) => {
    if (graph === null) return;
    if (event.key === "Enter" && plot.marked !== null) pin(plot.marked);
    else {
      const next = stepped(plot, event, plot.marked);
      if (next === null) return;
      look(graph.node[next]);
    }
    event.preventDefault();
  });
  for (const [name, action] of Object.entries({ in: () => plot.zoom(1.5), out: () => plot.zoom(1 / 1.5), all: () => plot.showAll() })) {
    document.querySelector(`[data-see="${name}"]`).addEventListener("click", action);
  }
  document.querySelector("[data-propose]").addEventListener("click", async ({ target }) => (await import("./graph_propose.js")).propose(data.id, pins, target, say));
  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    const press = (selector) => event.target.closest(selector);
    const [toNode, toPin, toChange, more, page] = [press("[data-node]"), press("[data-pin]"), press("[data-edit], [data-edit-pins]"), press("#node [data-more]"), press("[data-nodes-next], [data-nodes-all]")];
    if (toNode) {
      look(Number(toNode.dataset.node));
      if (toNode.closest("#nodes")) box.scrollIntoView({ block: "nearest" });
    } else if (toPin) pins.toggle(Number(toPin.dataset.pin));
    else if (toChange) change(toChange.dataset.edit === undefined ? [...pins.all.keys()] : [Number(toChange.dataset.edit)]);
    else if (more) beside(more.href);
    else if (page) table(page.search);
    else return;
    event.preventDefault();
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-nodes-form]")) return;
    event.preventDefault();
    table(`?${new URLSearchParams(new FormData(event.target))}`);
  });
}

const narrowing = () => import("./graph_narrow.js");

async function table(search) {
  try {
    await (await narrowing()).narrowTable(search);
  } catch (problem) {
    say(problem.message);
  }
}
