// What is under way, asked for every few seconds while the page is seen.
import * as api from "../lib/api.js";
import { address } from "../lib/http.js";
import { badge, bar, title } from "../lib/runs.js";
import { plural } from "../lib/format.js";
import { localTimes } from "../lib/shell.js";
import { make } from "../lib/state.js";

const EVERY_MS = 5000;
const box = document.getElementById("under-way");
let hold = 0;

function row(run) {
  const link = make("a", { href: address(`/runs/${run.parent_id ?? run.id}`) }, title(run));
  return make(
    "tr",
    { "data-run": run.id },
    make("th", { scope: "row" }, link),
    make("td", { class: "short" }, badge(run.state)),
    make("td", {}, bar(run)),
    make("td", { class: "short", "data-name": "started" }, make("time", { datetime: run.started_at, title: run.started_at })),
  );
}

function show(runs) {
  if (!runs.length) {
    box.replaceChildren(make("p", { class: "quiet" }, "No run is under way."));
    return;
  }
  const heads = ["run", "state", "progress", "started"].map((name) => make("th", {}, name));
  const rows = make("tbody", {}, ...runs.map(row));
  const table = make("table", { class: "wide cards" }, make("thead", {}, make("tr", {}, ...heads)), rows);
  localTimes(table);
  const focused = box.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  box.replaceChildren(make("div", { class: "tablebox" }, table));
  if (focused) box.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

async function look() {
  if (document.hidden || Date.now() < hold) return;
  try {
    const asked = ["running", "cancelling"].map((state) => api.runsListAll({ query: { state } }));
    const [running, cancelling, queues] = await Promise.all([...asked, api.queuesListAll()]);
    const held = [...running.items, ...cancelling.items];
    const parents = new Set(held.map((run) => run.parent_id));
    show(held.filter((run) => !parents.has(run.id)));
    const queued = queues.items.reduce((sum, queue) => sum + queue.queued, 0);
    document.querySelector("[data-waiting]").textContent = plural(queued, "run");
  } catch (problem) {
    hold = Date.now() + 1000 * (problem.retryAfter ?? 5);
  }
}

if (box !== null) {
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}
