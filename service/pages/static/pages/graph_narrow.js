// What narrows a graph, loaded when a slider or the table is used first.
import { replacePart } from "../lib/fragment.js";
import { keepInQuery } from "../lib/state.js";

/** At once, before the server prunes. */
export function preview(plot, graph, share) {
  plot.kept = carrying(graph, share);
  plot.draw();
}

/** Of each node whether it stays where features and errors are kept through which so much flows. */
function carrying(graph, share) {
  const inner = [...graph.influence.keys()].filter((i) => graph.shape[i] < 2).sort((a, b) => graph.influence[b] - graph.influence[a]);
  let left = share * inner.reduce((sum, i) => sum + graph.influence[i], 0) * (1 - 1e-12);
  const kept = Uint8Array.from(graph.shape, (shape) => (shape < 2 ? 0 : 1));
  for (const i of inner) {
    if (left <= 0) break;
    kept[i] = 1;
    left -= graph.influence[i];
  }
  return kept;
}

/** The table as another query narrows it; the rest of the address stays. */
export async function narrowTable(search) {
  const wanted = new URLSearchParams(search);
  keepInQuery(Object.fromEntries(["search", "kind", "layer", "position", "cursor"].map((name) => [name, wanted.get(name) || null])));
  await replacePart(location.pathname + location.search, "#nodes");
}
