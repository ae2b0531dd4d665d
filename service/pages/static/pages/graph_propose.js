// Supernodes that the server proposes, taken over as if they had been made by hand, and why each was proposed.
import { fixed, percent, plural } from "../lib/format.js";
import { call } from "../lib/http.js";
import { make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";
import { apart, LONGEST, MOST } from "./graph_pins.js";

const MOST_GROUPS = 100;

/** Asks for supernodes of graph `id`, gives them to `pins`, and tells why. */
export async function propose(id, pins, button, say) {
  button.disabled = true;
  say("Features are held against each other …");
  try {
    say(proposed(await call("GET", `/api/v1/graphs/${id}/supernodes`), pins));
  } catch (problem) {
    say(problem.message);
  }
  button.disabled = false;
}

function proposed(made, pins) {
  const taken = take(pins, made.supernodes);
  const box = document.querySelector("[data-proposed]");
  box.hidden = false;
  const these = ["none", "this supernode"][made.supernodes.length] ?? `these ${plural(made.supernodes.length, "supernode")}`;
  box.replaceChildren(make("summary", {}, `Why ${these}`), because(made));
  if (!made.supernodes.length) return `None of ${plural(made.features, "feature")} are more alike than chance makes them.`;
  const kept = taken < made.supernodes.length ? ` ${made.supernodes.length - taken} were left out: their nodes are in other supernodes, or there are too many.` : "";
  return `${plural(taken, "supernode")} proposed.${kept}`;
}

/** Takes over proposed supernodes, as far as their nodes are in none yet; how many. */
function take(pins, offered) {
  const groups = [...pins.state.groups];
  const inOne = new Set(groups.flatMap(({ members }) => members));
  let nodes = pins.all.size;
  let taken = 0;
  for (const { name, nodes: all } of offered) {
    const members = all.filter((node) => !inOne.has(node));
    if (members.length < 2 || groups.length >= MOST_GROUPS || nodes + members.length > MOST) continue;
    groups.push({ name: name.slice(0, LONGEST) || "supernode", members });
    taken += 1;
    nodes += members.length;
  }
  if (taken) pins.set(apart({ pinned: pins.state.pinned, groups }).pinned, groups);
  return taken;
}

function because({ supernodes, features, of_features, labelled, shuffles, refused }) {
  const shared = (edges) => edges.map(({ label, share }) => `${shown(label)} ${share < 0 ? "−" : "+"}${percent(Math.abs(share))}`).join(", ");
  const rows = supernodes.map(({ name, nodes, why, similarity, least, p, fed_by, feeds }) =>
    make("tr", {}, make("th", { scope: "row" }, shown(name)), make("td", { class: "n" }, String(nodes.length)),
      make("td", {}, why === "alike" ? `${fixed(similarity, 2)}, by chance up to ${fixed(least, 2)}; p ${fixed(p, 3)}` : "one feature at adjacent tokens"),
      make("td", {}, shared(fed_by)), make("td", {}, shared(feeds))));
  const heads = [["supernode", ""], ["nodes", "n"], ["how alike", ""], ["all are fed by", ""], ["all feed", ""]].map(([name, css]) => make("th", { scope: "col", class: css }, name));
  const of = `Of the ${features} features of most influence (of ${of_features}), ${labelled} with an explanation that was embedded. Alike are features whose edges at both ends are, and whose explanations are where both have one; chance: the most similar pair of the same layers in ${shuffles} graphs with shuffled edges. `;
  const apart = refused ? `${plural(refused, "pair")} alike enough ${refused === 1 ? "was" : "were"} left apart, because a path leaves them and comes back.` : "";
  const words = make("p", { class: "quiet" }, of + apart);
  if (!rows.length) return words;
  return make("div", {}, words,
    make("div", { class: "tablebox", tabindex: 0, role: "region", "aria-label": "Why these supernodes were proposed" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows))));
}
