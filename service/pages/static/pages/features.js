// /saes/{sae}/features: rows are gone through and chosen by keyboard; what is chosen is tagged, put on
// a list, explained or scored together.
import * as api from "../lib/api.js";
import { count } from "../lib/format.js";
import { askList, askWord, ontoList } from "../lib/gather.js";
import { address } from "../lib/http.js";
import { onKey } from "../lib/keys.js";
import { currentRow } from "../lib/rows.js";
import { announce, given, make } from "../lib/state.js";

const { sae } = given("data");
const table = document.getElementById("table");
const tools = document.getElementById("tools");
const said = document.getElementById("said");
const boxes = new Map();
let anchor = null;

function enliven() {
  tools.hidden = false;
  for (const row of table.tBodies[0].rows) {
    const box = make("input", { type: "checkbox", "aria-label": `choose feature ${row.dataset.index}` });
    box.addEventListener("click", (event) => picked(row, event.shiftKey));
    boxes.set(row, box);
    row.cells[0].prepend(box);
  }
  const all = document.getElementById("all");
  all.addEventListener("change", () => {
    for (const box of boxes.values()) box.checked = all.checked;
    counted();
  });
  const current = currentRow(table, { what: "feature" });
  onKey("x", "choose the feature", () => {
    const box = boxes.get(current.row);
    if (box === undefined) return;
    box.checked = !box.checked;
    picked(current.row, false);
  });
  for (const button of tools.querySelectorAll("[data-bulk]")) {
    button.addEventListener("click", () => bulk[button.dataset.bulk]());
  }
  counted();
}

/** With shift all from the one that was chosen last. */
function picked(row, range) {
  const rows = [...boxes.keys()];
  if (range && anchor !== null) {
    const [first, last] = [rows.indexOf(anchor), rows.indexOf(row)].sort((a, b) => a - b);
    for (const each of rows.slice(first, last + 1)) boxes.get(each).checked = boxes.get(row).checked;
  }
  anchor = row;
  counted();
}

const chosen = () => [...boxes].filter(([, box]) => box.checked).map(([row]) => Number(row.dataset.index));

function counted() {
  const number = chosen().length;
  document.getElementById("chosen").textContent = number ? `${count(number)} chosen` : "choose all";
  document.getElementById("all").checked = number === boxes.size;
  for (const button of tools.querySelectorAll("[data-bulk]")) {
    // One that the key may not press stays as it is.
    if (!button.title) button.disabled = number === 0;
  }
}

function say(...what) {
  said.replaceChildren(...what);
  announce(said.textContent);
}

/** Does `action` and says what came of it, with a link to where it can be seen. */
async function doing(words, action) {
  say(words);
  try {
    say(...(await action()));
  } catch (problem) {
    say(make("span", { class: "error" }, problem.errors?.[0]?.message ?? problem.message));
  }
}

const link = (path, words) => make("a", { href: address(path) }, words);

const bulk = {
  async tag() {
    const known = await api.tagsListAll({ query: { limit: 100 } }).catch(() => ({ items: [] }));
    const tag = await askWord("Tag", "tag", known.items.map((each) => each.tag));
    if (!tag) return;
    const features = chosen();
    await doing(`Tagging ${count(features.length)}…`, async () => {
      for (const index of features) await api.tagsAdd(sae, index, { body: { tags: [tag] } });
      return [`${count(features.length)} tagged. `, make("a", { href: location.href }, "See them here")];
    });
  },
  async list() {
    const list = await askList();
    if (list === null) return;
    const features = chosen();
    await doing("Adding…", async () => {
      await ontoList(list, sae, features);
      return [`${count(features.length)} are on the list `, link(`/lists/${encodeURIComponent(list.name)}`, list.name), "."];
    });
  },
  explain: () => submitted("explained", (indices) => ({ kind: "explain", sae, explanation: { features: { indices } } })),
  score: () => submitted("scored", (features) => ({ kind: "score", sae, features })),
};

/** One run for all that are chosen; `spec` makes its body of them. */
async function submitted(words, spec) {
  const features = chosen();
  await doing("Submitting…", async () => {
    const run = await api.runsSubmit({ body: spec(features) });
    return [`${count(features.length)} will be ${words} by `, link(`/runs/${run.id}`, "a run"), "."];
  });
}

if (table !== null) enliven();
