// Supernodes by hand: the dialog that makes one of pinned nodes, and what takes one apart.
import { make } from "../lib/state.js";
import { LONGEST } from "./graph_pins.js";

/** Which of the pinned become a supernode, and its name. */
export async function group(pins) {
  const { pinned, groups } = pins.state;
  const made = await askGroup(pinned.map((node) => [node, pins.label(node)]), LONGEST);
  if (made !== null) pins.set(pinned.filter((node) => !made.members.includes(node)), [...groups, made]);
}

export function ungroup(pins, members) {
  const { pinned, groups } = pins.state;
  pins.set([...pinned, ...members], groups.filter((each) => each.members !== members));
}

/** `nodes`: [number, label] of what is pinned; gives {name, members}, or null where it is closed. */
function askGroup(nodes, longest) {
  const field = make("input", { name: "name", required: true, maxlength: longest, autocomplete: "off" });
  const boxes = nodes.map(([number, label]) => make("li", {}, make("label", {}, make("input", { type: "checkbox", value: number, checked: true }), ` ${label}`)));
  const form = make("form", { method: "dialog", class: "supernode" },
    make("label", {}, "name of the supernode ", field), make("ul", {}, ...boxes),
    make("p", { class: "actions" }, make("button", { value: "yes", class: "main" }, "Group"), make("button", { value: "", formnovalidate: true, class: "plain" }, "Cancel")));
  const dialog = make("dialog", { "aria-label": "Group pinned nodes into a supernode" }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      const members = [...form.querySelectorAll(":checked")].map((box) => Number(box.value));
      resolve(dialog.returnValue === "yes" && members.length ? { name: field.value.trim() || "supernode", members } : null);
    });
  });
}
