// /lists/{name}: entries are moved, noted and taken out; the list is renamed, described, deleted.
import * as api from "../lib/api.js";
import { address } from "../lib/http.js";
import { onKey } from "../lib/keys.js";
import { Saver } from "../lib/saver.js";
import { given, make } from "../lib/state.js";

const list = given("data");
const saver = new Saver(document.getElementById("saving"));
const table = document.getElementById("entries");
const rows = () => [...(table?.tBodies[0].rows ?? [])];
const named = (row) => ({ sae: row.dataset.sae, feature: Number(row.dataset.feature) });
let current = null;

for (const each of document.querySelectorAll("#edit, #delete")) each.hidden = false;
if (table !== null) enliven();
editing();
deleting();

function enliven() {
  const tools = document.getElementById("tools");
  tools.hidden = false;
  onKey("j", "next entry", () => choose(rows()[rows().indexOf(current) + 1]));
  onKey("k", "entry before", () => choose(rows()[Math.max(0, rows().indexOf(current) - 1)]));
  onKey("Enter", "open the entry", () => current?.querySelector("a").click());
  table.tBodies[0].addEventListener("click", (event) => choose(event.target.closest("tr") ?? undefined));
  const actions = { K: (row) => move(row, -1), J: (row) => move(row, 1), n: note, x: takeOut };
  for (const button of tools.querySelectorAll("[data-key]")) {
    button.addEventListener("click", () => current && actions[button.dataset.key](current));
  }
}

function choose(row) {
  if (row === undefined) return;
  current?.removeAttribute("aria-current");
  current = row;
  row.setAttribute("aria-current", "true");
  row.scrollIntoView({ block: "nearest" });
  document.getElementById("chosen").textContent = row.querySelector("th").textContent.trim();
  for (const button of document.querySelectorAll("#tools [data-key]")) button.disabled = false;
}

/** What the answer to a change says of the list. */
function changed(answer) {
  document.getElementById("size").textContent = answer.size.toLocaleString("en");
  const steps = answer.revision - list.revision;
  list.revision = answer.revision;
  list.size = answer.size;
  if (steps > 1) saver.say("Saved. Somebody else has changed this list too: load it again to see how it stands.");
}

async function move(row, step) {
  const to = Number(row.dataset.place) + step;
  if (to < 0 || to >= list.size) return;
  const other = step < 0 ? row.previousElementSibling : row.nextElementSibling;
  try {
    changed(await saver.save(() => api.listsMoveEntries(list.id, { body: { entries: [named(row)], to } }), "Moved."));
  } catch {
    return;
  }
  if (other === null) {
    location.reload(); // it went to another page of the list
    return;
  }
  if (step < 0) other.before(row);
  else other.after(row);
  [row.dataset.place, other.dataset.place] = [other.dataset.place, row.dataset.place];
  for (const each of [row, other]) each.querySelector(".place").textContent = (Number(each.dataset.place) + 1).toLocaleString("en");
}

function note(row) {
  const cell = row.querySelector(".note");
  if (cell.querySelector("input") !== null) return;
  const text = cell.querySelector(".text");
  const field = make("input", { value: text.textContent, maxlength: 2000, "aria-label": "note" });
  let ended = false;
  const end = async (keep) => {
    if (ended) return;
    ended = true;
    const written = field.value;
    field.remove();
    text.hidden = false;
    if (!keep || written === text.textContent) return;
    const before = text.textContent;
    text.textContent = written;
    try {
      const entries = [{ ...named(row), note: written }];
      changed(await saver.save(() => api.listsAddEntries(list.id, { body: { entries } })));
    } catch {
      text.textContent = before;
    }
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
  });
  field.addEventListener("blur", () => end(true));
  text.hidden = true;
  cell.append(field);
  field.focus();
}

async function takeOut(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  try {
    changed(await saver.save(() => api.listsRemoveEntries(list.id, { body: { entries: [named(row)] } }), "Taken out."));
  } catch {
    return;
  }
  for (const each of rows().slice(rows().indexOf(row) + 1)) {
    each.dataset.place = String(Number(each.dataset.place) - 1);
    each.querySelector(".place").textContent = (Number(each.dataset.place) + 1).toLocaleString("en");
  }
  row.remove();
  current = null;
  if (next !== null) choose(next);
}

function editing() {
  const form = document.getElementById("editor");
  const [name, description] = [form.elements.name, form.elements.description];
  const error = form.querySelector(".error");
  document.getElementById("edit").addEventListener("click", () => {
    form.hidden = false;
    name.focus();
  });
  form.querySelector("[data-cancel]").addEventListener("click", () => (form.hidden = true));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.replaceChildren();
    const body = { name: name.value, description: description.value, revision: list.revision };
    try {
      const answer = await saver.save(() => api.listsChange(list.id, { body }));
      Object.assign(list, { name: answer.name, description: answer.description, revision: answer.revision });
      for (const id of ["name", "crumb"]) document.getElementById(id).textContent = answer.name;
      document.getElementById("description").textContent = answer.description;
      form.hidden = true;
    } catch (problem) {
      if (problem.status === 409 && problem.title === "The list has changed meanwhile") await conflict(error);
      else error.textContent = problem.errors?.[0]?.message ?? problem.message;
    }
  });
}

/** Somebody else was faster: both are shown, and the next saving is over theirs. */
async function conflict(error) {
  const theirs = await api.listsShow(list.id, { query: { limit: 1 } });
  list.revision = theirs.revision;
  error.replaceChildren(
    "Somebody has changed the list meanwhile. Theirs:",
    make("dl", { class: "pairs", id: "theirs" },
      make("dt", {}, "name"), make("dd", {}, theirs.name),
      make("dt", {}, "about"), make("dd", {}, theirs.description || "–")),
    "Yours is in the fields above. Save once more to put yours in place of it.",
  );
}

function deleting() {
  const dialog = document.getElementById("sure");
  const error = dialog.querySelector(".error");
  document.getElementById("delete").addEventListener("click", () => dialog.showModal());
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    if (event.submitter?.value !== "yes") return;
    event.preventDefault();
    try {
      await api.listsRemove(list.id);
      location.assign(address("/lists"));
    } catch (problem) {
      error.textContent = problem.message;
    }
  });
}
