// Edges of single nodes, where a graph has more than its drawing: loaded for such graphs alone.
import { call } from "../lib/http.js";
import { columnsOf } from "./graph_layout.js";

const MOST = 200;
/** At either end of a node, the largest weights. */

/** `graph` with the edges of these nodes (numbers) that its drawing lacks, those from biases left out. */
export async function withEdges(graph, id, nodes) {
  const wanted = nodes.filter((node) => graph.at.has(node) && !graph.whole?.has(node));
  if (!wanted.length) return graph;
  const [source, target, weight, flow] = [graph.source, graph.target, graph.weight, graph.flow].map((each) => each.slice());
  // Two edges may join the same nodes, one of either sign.
  const known = new Set(source.map((from, e) => `${from} ${target[e]} ${weight[e]}`));
  for (const node of wanted) {
    for (const end of ["in", "out"]) {
      const { items } = await call("GET", `/api/v1/graphs/${id}/nodes/${node}/edges`, { query: { end, limit: MOST } });
      for (const edge of items) {
        const other = graph.at.get(edge.other);
        const key = `${edge.source} ${edge.target} ${edge.weight}`;
        if (other === undefined || graph.kind[other] === "bias" || known.has(key)) continue;
        known.add(key);
        source.push(edge.source);
        target.push(edge.target);
        weight.push(edge.weight);
        flow.push(0);
      }
    }
  }
  return { ...columnsOf({ ...graph, source, target, weight, flow }), whole: new Set([...(graph.whole ?? []), ...wanted]) };
}
