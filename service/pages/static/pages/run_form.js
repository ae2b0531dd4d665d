// The form of a run beside its YAML: what is written in one is shown in the other.  The service
// reads and writes YAML, and says what is wrong.
import * as api from "../lib/api.js";
import { draft, keepDraft } from "../lib/drafts.js";
import { count, fixed } from "../lib/format.js";
import { address } from "../lib/http.js";
import { announce, given, make } from "../lib/state.js";
import { drawForm } from "./schema_form.js";

const WAIT_MS = 400;
const SOUND = "It can be submitted.";
const { kind, known, faulty } = given("form");
const fields = document.getElementById("fields");
const text = document.getElementById("text");
const faults = document.getElementById("faults");
const form = document.getElementById("spec");
const dry = document.getElementById("dry");
const reading = document.getElementById("reading");

let schema = null;
let spec = { kind };
/** Which of the two was written in last, and is not read yet. */
let unread = null;
let timer = null;
let asked = 0;
let touched = faulty;

/** What is written here is kept by the address that it was written at: `{text}` or `{spec}`. */
const draftAt = (query) => `run:${query}`;
const DRAFT = draftAt(location.search);

const state = {
  get: () => spec,
  set: (changed) => {
    spec = changed;
    later("spec");
  },
  redraw: (path) => redraw(path?.join(".")),
};

function redraw(path) {
  const focused = document.activeElement?.id;
  const open = new Set([...fields.querySelectorAll("details[open]")].map(pathOf));
  const scroll = scrollY;
  fields.replaceChildren(drawForm(schema, state));
  for (const each of fields.querySelectorAll("details")) if (open.has(pathOf(each))) each.open = true;
  scrollTo(scrollX, scroll);
  const next = document.getElementById(focused) ?? fields.querySelector(`[data-path="${CSS.escape(path ?? "")}"] :is(select, input, button)`);
  if (focused || path) next?.focus({ preventScroll: true });
}

const pathOf = (details) => `${details.closest("[data-path]")?.dataset.path ?? ""}/${details.querySelector("summary").textContent}`;

function later(what) {
  unread = what;
  touched = true;
  keepDraft(DRAFT, what === "text" ? { text: text.value } : { spec });
  clearTimeout(timer);
  timer = setTimeout(read, WAIT_MS);
}

/** Has the service read what was written last. */
async function read() {
  clearTimeout(timer);
  const what = unread;
  unread = null;
  const turn = ++asked;
  const body = what === "text" ? { text: text.value } : { spec };
  let told;
  try {
    told = await api.runsParse({ body });
  } catch (problem) {
    showFaults(problem.errors.length ? problem.errors : [{ path: "", message: problem.message }]);
    return null;
  }
  if (turn !== asked || unread !== null) return null; // something newer is on its way
  if (what === "text") {
    if (told.spec !== null) {
      if (isOfAnother(told)) {
        carryOver(told);
        return null;
      }
      spec = told.spec;
      redraw();
    }
  } else text.value = told.yaml;
  showFaults(touched ? told.errors : []);
  reading.textContent = told.errors.length ? "" : SOUND;
  return told;
}

const isOfAnother = ({ spec: read, errors }) => read !== null && read.kind !== kind && errors.every((each) => each.path !== "kind");

/** Another kind has another form: the text goes along to its page. */
function carryOver(told) {
  const target = address("/runs/new", { kind: told.spec.kind });
  keepDraft(DRAFT, null);
  keepDraft(draftAt(new URL(target, location.href).search), { text: told.yaml });
  location.assign(target);
}

function showFaults(errors) {
  for (const old of fields.querySelectorAll(".fault")) old.remove();
  for (const old of fields.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  const left = errors.filter((each) => !showAtField(each));
  for (const each of left) openFolds(each.message);
  const words = (each) => make("li", {}, each.path ? make("code", {}, each.path) : null, each.path ? ": " : "", each.message);
  faults.replaceChildren(...(left.length ? [make("div", { class: "notice bad" }, make("ul", {}, ...left.map(words)))] : []));
  if (errors.length) reading.textContent = `${count(errors.length)} to mend.`;
}

/** What is wrong with several fields together has no path; its words name them. */
function openFolds(message) {
  const named = new Set(message.match(/\w+/g));
  for (const fold of fields.querySelectorAll("details"))
    if ([...fold.children].some((each) => named.has(each.dataset.path?.split(".").at(-1)))) fold.open = true;
}

/** At the field of its path, or else at the nearest part around it; false where the form has neither. */
function showAtField({ path, message }) {
  const steps = path.split(".");
  for (let length = steps.length; length > 0 && path; length -= 1) {
    const at = steps.slice(0, length).join(".");
    const place = fields.querySelector(`[data-path="${CSS.escape(at)}"]`);
    if (place === null) continue;
    const rest = steps.slice(length).join(".");
    const id = `fault-${at}-${place.querySelectorAll(".fault").length}`;
    const fault = make("p", { class: "fault", id }, rest ? `${rest}: ${message}` : message);
    const control = place.matches(".row") ? place.querySelector("input, select, textarea") : null;
    (place.querySelector(".control") ?? place).append(fault);
    control?.setAttribute("aria-invalid", "true");
    for (let around = place.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
    return true;
  }
  return false;
}

async function current() {
  touched = true;
  const told = await read();
  return told === null || told.errors.length ? null : told.spec;
}

async function submitted(changed) {
  const priority = Number(form.elements.priority.value) || 0;
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  try {
    return await api.runsSubmit({ body: changed, query: { priority }, headers });
  } catch (problem) {
    const errors = problem.errors.length ? problem.errors : [{ path: "", message: `${problem.title}: ${problem.message}` }];
    showFaults(errors);
    faults.focus();
    return null;
  }
}

async function alone(work) {
  const buttons = form.querySelectorAll("button");
  const were = [...buttons].map((each) => each.disabled);
  for (const each of buttons) each.disabled = true;
  try {
    await work();
  } finally {
    buttons.forEach((each, place) => {
      each.disabled = were[place];
    });
  }
}

async function submit(event) {
  event.preventDefault();
  await alone(async () => {
    const ready = await current();
    if (ready === null) {
      (fields.querySelector("[aria-invalid]") ?? faults).focus();
      return;
    }
    const run = await submitted(ready);
    if (run === null) return;
    keepDraft(DRAFT, null);
    location.assign(address(`/runs/${run.id}`));
  });
}

/** Submits a run that only counts, and shows what it counted. */
async function dryRun() {
  const shown = document.getElementById("forecast");
  await alone(async () => {
    const ready = await current();
    const run = ready === null ? null : await submitted({ ...ready, dry_run: true });
    if (run === null) return;
    const link = make("a", { href: address(`/runs/${run.id}`) }, "dry run");
    shown.replaceChildren(make("p", { class: "quiet" }, "The ", link, " is under way."));
    const ended = await untilEnded(run.id);
    const told = ended.result?.forecast;
    if (!told) {
      shown.replaceChildren(make("p", { class: "fault" }, "The ", link, ` ${ended.state}: ${ended.error ?? "no forecast"}`));
      return;
    }
    shown.replaceChildren(forecastTable(told, link));
    announce(`About ${count(Math.round(told.calls))} calls.`);
  });
}

async function untilEnded(id) {
  for (;;) {
    const run = await api.runsShowRun(id).catch(() => null);
    if (run !== null && ["succeeded", "failed", "cancelled"].includes(run.state)) return run;
    await new Promise((done) => setTimeout(done, 700));
  }
}

function forecastTable(told, link) {
  const line = (name, value) => [make("dt", {}, name), make("dd", {}, value)];
  return make(
    "section",
    { "aria-label": "Forecast" },
    make("h2", {}, told.at_most ? "It would take at most" : "It would take about"),
    make(
      "dl",
      { class: "pairs" },
      ...line("features", count(told.features)),
      ...line("calls", count(Math.round(told.calls)) + (told.judge_test_calls ? `, ${count(told.judge_test_calls)} to test the judge` : "")),
      ...line("tokens in", count(Math.round(told.prompt_tokens))),
      ...line("tokens out", count(Math.round(told.completion_tokens))),
      ...line("cost", `${fixed(told.cost)} (${fixed(told.low)}–${fixed(told.high)})`),
    ),
    make("p", { class: "quiet" }, told.calibrated ? "Counted by the endpoint on a sample. " : "Tokens are estimated. ", link),
  );
}

/** Says that a draft is shown, and offers what the page would show without it. */
function offerAfresh() {
  const again = () => {
    keepDraft(DRAFT, null);
    form.reset();
    location.reload();
  };
  const button = make("button", { type: "button", class: "plain", onclick: again }, "Start afresh");
  text.before(make("p", { class: "quiet", id: "draft", role: "status" }, "What you wrote and did not submit is back. ", button));
}

async function begin() {
  document.getElementById("kind").addEventListener("change", (event) => event.target.form.submit());
  if (!known) return; // it says so, and the YAML is enough
  const written = faulty ? null : draft(DRAFT); // what was sent and refused is newer
  const [about, told] = await Promise.all([api.runsShowKind(kind), api.runsParse({ body: written ?? { text: text.value } })]);
  if (written !== null) {
    if (isOfAnother(told)) {
      carryOver(told);
      return;
    }
    text.value = told.yaml;
    touched = true;
    offerAfresh();
  }
  schema = about.json_schema;
  spec = told.spec ?? { kind };
  fields.hidden = false;
  redraw();
  showFaults(touched ? told.errors : []);
  if (written !== null && !told.errors.length) reading.textContent = SOUND;
  dry.hidden = !("dry_run" in schema.properties);
  text.addEventListener("input", () => later("text"));
  form.addEventListener("submit", submit);
  dry.addEventListener("click", dryRun);
  fields.dataset.ready = "";
}

begin().catch(() => {
  fields.hidden = true; // the YAML is enough
});
