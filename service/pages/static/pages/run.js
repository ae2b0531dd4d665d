// A run while it is looked at: its state, progress, curves and log as they change.
import * as api from "../lib/api.js";
import { listen } from "../lib/events.js";
import { address } from "../lib/http.js";
import { badge, bar, hasEnded, line, took, waiting } from "../lib/runs.js";
import { localTimes } from "../lib/shell.js";
import { announce, given, make } from "../lib/state.js";
import { drawCurves } from "./run_curves.js";

const MOST_LINES = 500;
const CURVES_MS = 3000;
const PLACE_MS = 5000;

const live = given("run-data");
const find = (selector) => document.querySelector(selector);
const log = find("[data-log]");
const newest = new Map();
let lastCurves = 0;
let refreshing = null;

log.scrollTop = log.scrollHeight;

function addLine(event) {
  const words = line(event);
  if (words === null) return;
  const [how, text] = words;
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const time = make("time", { datetime: event.created_at, title: event.created_at, "data-clock": true });
  const item = make("li", { class: how, "data-event": event.id }, time, " ", make("b", {}, live.steps[event.run_id] ?? "run"), ` ${text}`);
  localTimes(item);
  log.append(item);
  while (log.children.length > MOST_LINES) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showProgress(event) {
  if (event.id < (newest.get(event.run_id) ?? 0)) return;
  newest.set(event.run_id, event.id);
  const row = find(`[data-run="${event.run_id}"]`);
  const shown = bar({ state: "running", progress: event.data });
  row?.querySelector("[data-progress]")?.replaceWith(shown);
  if (event.data.metrics?.fvu !== undefined) refreshCurves();
}

async function refreshCurves() {
  if (!live.training || Date.now() - lastCurves < CURVES_MS) return;
  lastCurves = Date.now();
  const query = { points: 300, place: live.place };
  const told = await api.runsShowTraining(live.run, { query }).catch(() => null);
  if (told?.saes.length) drawCurves(find("[data-curves]"), told.saes[0].readings);
}

function showStage(event) {
  const name = Object.keys(live.steps).length > 1 ? `${live.steps[event.run_id]}: ${event.data.stage}` : event.data.stage;
  const rows = find("[data-stages]");
  find("[data-staged]").hidden = false;
  const old = [...rows.children].find((row) => row.firstElementChild.textContent === name);
  old?.remove();
  rows.append(make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, took(event.data))));
}

function showStep(run) {
  const row = find(`tr[data-run="${run.id}"]`);
  if (row === null) return;
  row.querySelector("[data-state-cell]").replaceChildren(badge(run.state));
  const cell = row.querySelector("[data-progress-cell]");
  if (run.error) cell.replaceChildren(make("span", { class: "clip", title: run.error }, run.error));
  else if (run.state === "succeeded" && run.stages.length) {
    cell.replaceChildren(make("span", { class: "quiet" }, took(run.stages.at(-1))));
  } else if (!cell.querySelector("[data-progress]")) cell.replaceChildren(bar(run));
}

async function refresh() {
  const run = await api.runsShowRun(live.run).catch(() => null);
  if (run === null) return;
  if (hasEnded(run)) {
    live.going = false;
    announce(`The run ${run.state}.`);
    // Result, cost and what can be done now are the server's to draw.
    location.reload();
    return;
  }
  find("[data-head]").replaceChildren(badge(run.state));
  const attempt = find("[data-attempt]");
  if (attempt) attempt.textContent = String(run.attempt);
  run.children.forEach(showStep);
  showSince(run);
  const standing = find("[data-standing]");
  if (run.state === "cancelling") {
    standing.replaceChildren(make("p", { class: "notice" }, "It stops at its next step and keeps its checkpoint."));
    find("[data-actions] button.danger").disabled = true;
  } else if (run.state === "running" && run.queue !== "none") standing.replaceChildren();
  else if (run.state === "queued") await showPlace(run);
}

function showSince(run) {
  const since = find("[data-since]");
  if (!run.started_at || !since.hidden) return;
  const time = make("time", { datetime: run.started_at, title: run.started_at });
  since.replaceChildren(since.firstElementChild, " ", time);
  localTimes(since);
  since.hidden = false;
}

async function showPlace(run) {
  const told = await api.runsShowWaiting(live.run).catch(() => null);
  if (told === null || told.waits_for === "nothing") return;
  const words = [make("p", { class: "quiet" }, waiting(told))];
  if (run.error) words.unshift(make("p", { class: "notice" }, `An attempt failed: ${run.error}`));
  find("[data-standing]").replaceChildren(...words);
}

function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(refresh, 200);
}

function take(event) {
  addLine(event);
  if (event.type === "progress") showProgress(event);
  else if (event.type === "stage") showStage(event);
  else if (event.type === "state") refreshSoon();
}

function begin() {
  const connection = find("[data-connection]");
  listen(address(`/api/v1/runs/${live.run}/events`), {
    after: live.after,
    seen: live.seen,
    onEvent: take,
    onChange: (state) => {
      connection.textContent = { live: "Live", hidden: "", lost: "The connection is lost; trying again." }[state];
    },
    hasEnded: async () => {
      const run = await api.runsShowRun(live.run).catch(() => null);
      if (run === null || !hasEnded(run)) return false;
      if (live.going) refreshSoon();
      return true;
    },
  });
  setInterval(() => {
    if (!document.hidden && find("[data-head] .state").dataset.state === "queued") refresh();
  }, PLACE_MS);
}

refreshCurves(); // so that they can be read off
if (live.going) begin();
