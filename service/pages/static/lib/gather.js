// Putting features on a list: which one is asked for, and it is begun where there is none of that name.
import * as api from "./api.js";
import { make } from "./state.js";

const AT_ONCE = 1000;
/** As many as REST takes in one call. */

/** Asks for a word in a dialog; null where it is closed. */
export function askWord(title, label, suggestions = []) {
  return new Promise((resolve) => {
    const field = make("input", { name: "word", required: true, maxlength: 120, list: "suggested", autocomplete: "off" });
    const options = suggestions.map((each) => make("option", { value: each }));
    const form = make(
      "form",
      { method: "dialog" },
      make("label", {}, `${label} `, field),
      make("datalist", { id: "suggested" }, ...options),
      make("p", { class: "actions" }, make("button", { value: "yes" }, title), make("button", { value: "", formnovalidate: true, class: "plain" }, "Cancel")),
    );
    const dialog = make("dialog", { "aria-label": title }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? field.value.trim() : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** The name of the list that is meant, and whether it is there already; null where none is. */
export async function askList() {
  const lists = await api.listsListAll({ query: { limit: 100 } }).catch(() => ({ items: [] }));
  const names = lists.items.map((each) => each.name);
  const name = await askWord("Add to a list", "list, or a new one", names);
  return name ? { name, known: names.includes(name) } : null;
}

/** Puts features of an SAE at the end of the list that `askList` gave. */
export async function ontoList({ name, known }, sae, features) {
  if (!known) await begun(name);
  for (let first = 0; first < features.length; first += AT_ONCE) {
    const entries = features.slice(first, first + AT_ONCE).map((feature) => ({ sae, feature }));
    await api.listsAddEntries(name, { body: { entries } });
  }
}

/** A list of that name; one that is there already will do. */
async function begun(name) {
  try {
    await api.listsMake({ body: { name, description: "" } });
  } catch (problem) {
    if (problem.status !== 409) throw problem;
  }
}
