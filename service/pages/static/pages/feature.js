// A feature's page: explained, scored, voted on, tagged, listed and tried without leaving it.
import * as api from "../lib/api.js";
import { keepDraft, keepFields } from "../lib/drafts.js";
import { follow } from "../lib/follow.js";
import { refresh } from "../lib/refresh.js";
import { announce, given } from "../lib/state.js";
import { installTest } from "./feature_test.js";
import { installTokens } from "./feature_tokens.js";

const { sae, index, maximum } = given("data") ?? {};
const find = (selector) => document.querySelector(selector);
const said = find("#judge-said");

/** Shows what came of `work` beside `output`; what the server refuses is said there too. */
async function told(output, work) {
  output.classList.remove("error");
  try {
    output.textContent = (await work()) ?? "";
  } catch (problem) {
    output.classList.add("error");
    const wait = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
    output.textContent = (problem.errors?.[0]?.message ?? problem.message) + wait;
  }
  announce(output.textContent);
}

const followed = new Set();

function followRun(run, words) {
  if (followed.has(run)) return;
  followed.add(run);
  said.textContent = `${words} …`;
  follow(run, async ({ state, ended, error }) => {
    said.textContent = `${words}: ${state}`;
    if (!ended) return;
    await told(said, async () => {
      await refresh("said", "under-way", "heading");
      if (state === "succeeded") return "";
      throw new Error(error ? `${words}: ${error}` : `${words}: ${state}`);
    });
    if (state === "succeeded") await told(said, () => whatFailed(run));
  });
}

/** What a run that has ended could not do. */
async function whatFailed(run) {
  const { result } = await api.runsShowRun(run);
  const failed = result?.failed ?? {};
  const reasons = Array.isArray(failed) ? failed : Object.values(failed);
  return reasons.length ? `It could not be done: ${reasons.map(String).join("; ")}` : "";
}

const once = () => ({ "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });

function installJudge() {
  find("#explain").addEventListener("click", () =>
    told(said, async () => {
      const run = await api.explanationsExplain(sae, index, { body: {}, headers: once() });
      followRun(run.id, "Being explained");
      return said.textContent;
    }),
  );
  find("#score").addEventListener("click", () =>
    told(said, async () => {
      const body = { scoring: { scorer: find("#scorer").value } };
      const newest = find("article.explanation");
      if (newest === null) return "There is nothing to score yet.";
      body.explanation = newest.dataset.explanation;
      const run = await api.explanationsScore(sae, index, { body, headers: once() });
      followRun(run.id, "Being scored");
      return said.textContent;
    }),
  );
}

function installWriting() {
  const own = find("#own");
  const button = find("#write");
  const show = (open) => {
    own.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => {
    show(own.hidden);
    if (!own.hidden) find("#own-text").focus();
  });
  const name = `explanation:${sae}:${index}`;
  if (keepFields(name, [find("#own-label"), find("#own-text")])) show(true);
  own.addEventListener("submit", (event) => {
    event.preventDefault();
    told(said, async () => {
      const body = { text: find("#own-text").value };
      if (find("#own-label").value.trim()) body.label = find("#own-label").value;
      await api.explanationsExplain(sae, index, { body });
      keepDraft(name, null);
      own.reset();
      show(false);
      button.focus();
      await refresh("said");
      return "Saved.";
    });
  });
}

function installVotes() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-vote]");
    if (button === null) return;
    told(said, async () => {
      const value = button.getAttribute("aria-pressed") === "true" ? 0 : Number(button.dataset.vote);
      await api.explanationsVote(button.closest("[data-explanation]").dataset.explanation, { body: { value } });
      await refresh("said");
      return value === 0 ? "Your vote is taken back." : "Your vote counts.";
    });
  });
}

function installTags() {
  const form = find("#tag-form");
  const output = form.querySelector("[role=status]");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    told(output, async () => {
      const tags = form.elements.tag.value.split(",").filter((each) => each.trim());
      if (!tags.length) return "";
      await api.tagsAdd(sae, index, { body: { tags } });
      form.reset();
      await refresh("tag-list");
      return "Tagged.";
    });
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-untag]");
    if (button === null) return;
    told(output, async () => {
      await api.tagsRemove(sae, index, button.dataset.untag);
      await refresh("tag-list");
      return "Taken off.";
    });
  });
}

function installLists() {
  const form = find("#list-form");
  const output = form.querySelector("[role=status]");
  const names = find("#list-names");
  form.elements.list.addEventListener("focus", async () => {
    if (names.childElementCount) return;
    const page = await api.listsListAll({ query: { limit: 200 } }).catch(() => ({ items: [] }));
    for (const each of page.items) names.append(new Option(each.name, each.name));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    told(output, async () => {
      const name = form.elements.list.value.trim();
      if (!name) return "";
      const body = { entries: [{ sae, feature: index }] };
      let begun = "";
      try {
        await api.listsAddEntries(name, { body });
      } catch (problem) {
        if (problem.status !== 404) throw problem;
        const made = await api.listsMake({ body: { name } });
        await api.listsAddEntries(made.id, { body });
        begun = ", which is begun";
      }
      form.reset();
      await refresh("list-list");
      return `Added to ${name}${begun}.`;
    });
  });
}

/** Controls that need a script are hidden until it is there. */
function showLive(within) {
  for (const each of within.querySelectorAll(".live")) each.hidden = false;
}

function installDrawing() {
  const form = find("#drawing");
  if (form === null) return;
  form.querySelector("button").hidden = true;
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => {
    // Defaults need not stand in the address.
    for (const field of form.elements) if (field.dataset.default === field.value) field.disabled = true;
  });
}

if (sae !== undefined) {
  installJudge();
  installWriting();
  installVotes();
  installTags();
  installLists();
  installDrawing();
  installTest({ sae, index, maximum, told });
  installTokens();
  document.addEventListener("refreshed", (event) => showLive(event.detail));
  showLive(document);
  for (const each of document.querySelectorAll("[data-run]")) followRun(each.dataset.run, each.dataset.words);
}
