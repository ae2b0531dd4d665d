// Pinned nodes and supernodes of a graph: what is kept in the address, the subgraph between them, where they can be steered.
import { plural, signed } from "../lib/format.js";
import { address } from "../lib/http.js";
import { announce, make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";

export const MOST = 200;
/** Pins, so that the address stays short. */
export const LONGEST = 60;
/** Characters of a supernode's name. */

/** `{pinned, groups}` as the address has them: numbers of nodes, and NAME:NUMBERS. */
export function pinsFrom(query) {
  const numbers = (text) => [...new Set(text.match(/\d{1,9}/g)?.map(Number))].slice(0, MOST);
  const groups = query.getAll("groups").map((each) => {
    const [, name, members] = /^(.*?):?([\d,]*)$/s.exec(each) ?? [];
    return { name: name?.slice(0, LONGEST) || "supernode", members: numbers(members ?? "") };
  });
  return apart({ pinned: numbers(query.get("pinned") ?? ""), groups: groups.filter(({ members }) => members.length) });
}

/** What is in a supernode is not pinned by itself too. */
export const apart = ({ pinned, groups }) => ({ pinned: pinned.filter((node) => !groups.some(({ members }) => members.includes(node))), groups });

/** For `keepInQuery`; `without`: what stands there if nothing is pinned. */
export function pinsInQuery({ pinned, groups }, without = null) {
  return { pinned: pinned.join(",") || without, groups: groups.map(({ name, members }) => `${name}:${members.join(",")}`) };
}

export class Pins {
  /** `changed()`: pins are other ones; `look(number)`: one of them is to be looked at. */
  constructor(state, data, { changed, look }) {
    Object.assign(this, { state, data, changed, look, graph: null });
    this.section = document.getElementById("pins");
    this.section.querySelector('[data-pins="group"]').addEventListener("click", () => this.#byHand("group"));
    this.section.querySelector('[data-pins="none"]').addEventListener("click", () => this.set([], []));
  }

  has(number) {
    return this.state.pinned.includes(number) || this.state.groups.some(({ members }) => members.includes(number));
  }

  toggle(number) {
    const { pinned, groups } = this.state;
    if (!this.has(number)) {
      if (pinned.length >= MOST) return announce("Too many pins.");
      return this.set([...pinned, number], groups);
    }
    const left = groups.map(({ name, members }) => ({ name, members: members.filter((each) => each !== number) }));
    return this.set(pinned.filter((each) => each !== number), left.filter(({ members }) => members.length));
  }

  /** What makes and unmakes supernodes is loaded when it is asked for. */
  async #byHand(what, members) {
    (await import("./graph_group.js"))[what](this, members);
  }

  set(pinned, groups) {
    Object.assign(this.state, { pinned, groups });
    announce(`${plural(this.all.size, "node")} pinned`);
    this.changed();
  }

  /** By number of a node: whether it is in a supernode. */
  get all() {
    return new Map([...this.state.pinned.map((each) => [each, false]), ...this.state.groups.flatMap(({ members }) => members.map((each) => [each, true]))]);
  }

  /** Draws everything; `graph`: of `columnsOf`, `here`: the node that is looked at. The drawing of boxes is loaded
   * when something is pinned. */
  async show(graph, here) {
    this.graph = graph;
    const { pinned, groups } = this.state;
    this.section.hidden = !pinned.length && !groups.length;
    if (this.section.hidden) return;
    const { subgraph } = await import("./graph_subgraph.js");
    const units = [
      ...groups.map(({ name, members }) => ({ name, members, group: true })),
      ...pinned.map((node) => ({ name: this.label(node), members: [node], group: false })),
    ];
    const { svg, links } = subgraph(graph, units, here, (unit) => this.look(unit.members[0]));
    this.section.querySelector("[data-subgraph]").replaceChildren(svg);
    this.section.querySelector("[data-pin-lists]").replaceChildren(...this.#lists(units, links));
    this.section.querySelector('[data-pins="group"]').disabled = !pinned.length;
    this.#steer([...this.all.keys()]);
  }

  label(node) {
    const i = this.graph.at.get(node);
    return i === undefined ? `node ${node} (not shown)` : shown(this.graph.label[i]);
  }

  #lists(units, links) {
    const row = (node) => make("li", {},
      make("button", { type: "button", class: "link", onclick: () => this.look(node) }, this.label(node)),
      make("button", { type: "button", class: "drop plain", "aria-label": `Unpin ${this.label(node)}`, onclick: () => this.toggle(node) }, "×"));
    const parts = [];
    for (const { name, members } of this.state.groups) {
      const apart = make("button", { type: "button", class: "plain", onclick: () => this.#byHand("ungroup", members) }, "Ungroup");
      parts.push(make("h3", {}, shown(name), " ", apart), make("ul", { class: "chips" }, ...members.map(row)));
    }
    if (this.state.pinned.length) parts.push(make("h3", {}, "Nodes"), make("ul", { class: "chips" }, ...this.state.pinned.map(row)));
    const sums = links.map(({ from, to, sum, n }) => make("li", {}, make("span", {}, `${shown(units[from].name)} → ${shown(units[to].name)}${n > 1 ? ` (${n} edges)` : ""}`), make("span", { class: "n" }, signed(sum))));
    parts.push(make("h3", {}, "Edges between them"), sums.length ? make("ul", { class: "chips" }, ...sums) : make("p", { class: "quiet" }, "None shown."));
    return parts;
  }

  /** Links to steering: one for each SAE, since features of one SAE are pushed together. */
  #steer(nodes) {
    const { graph, data } = this;
    const bySae = new Map();
    for (const node of nodes) {
      const i = graph.at.get(node);
      if (i === undefined || graph.latent[i] === null || !data.served[graph.coder[i]]) continue;
      const sae = data.saes[graph.coder[i]];
      bySae.set(sae, new Set([...(bySae.get(sae) ?? []), graph.latent[i]]));
    }
    const links = [...bySae].map(([sae, latents]) =>
      make("a", { class: "button", href: address("/steer", { sae, f: [...latents].map((each) => `${each}=1`) }) + data.steered }, `Steer the ${latents.size === 1 ? "one" : latents.size} of ${shown(sae)}`));
    this.section.querySelector("[data-steer]").replaceChildren(...links);
  }
}
