// /label: one feature after another by the keyboard.  Each step is stored before the next is shown,
// and what cannot be stored yet is said, kept and tried again.
import * as api from "../lib/api.js";
import { keepDraft, keepFields } from "../lib/drafts.js";
import { onKey } from "../lib/keys.js";
import { pageAt, take } from "../lib/refresh.js";
import { Saver } from "../lib/saver.js";
import { given } from "../lib/state.js";
import { judge, takeAnswerBack } from "./label_judge.js";

const STEPS = "monosemy:label-steps";
const MOST_STEPS = 50;
const find = (selector) => document.querySelector(selector);

if (find("#saving") !== null) {
  const saver = new Saver(find("#saving"));
  let data = null;

  /** Address of the feature that is shown, whether or not it is done meanwhile. */
  const own = () => {
    const address = new URL(location.href);
    address.searchParams.set("at", `${data.sae}:${data.feature}`);
    return address.pathname + address.search;
  };

  /** Shows what is at `path`; the one before stays where the server does not answer. */
  async function show(path, { words = "", push = true } = {}) {
    const fresh = await saver.save(() => pageAt(path), words, "The page is not here");
    take(fresh, "task");
    document.title = fresh.title;
    if (push && path !== location.pathname + location.search) history.pushState(null, "", path);
    else history.replaceState(null, "", path);
    enliven();
  }

  const steps = () => JSON.parse(sessionStorage.getItem(STEPS) ?? "[]");
  function remember(step) {
    const kept = [...steps(), { ...step, path: own() }].slice(-MOST_STEPS);
    sessionStorage.setItem(STEPS, JSON.stringify(kept));
  }

  async function undo() {
    if (data?.mode === "judge" && (await takeAnswerBack(saver))) return;
    const kept = steps();
    const step = kept.pop();
    if (step === undefined) {
      saver.say("There is nothing to take back.");
      return;
    }
    const back = {
      write: () => api.explanationsRemove(step.explanation),
      vote: () => api.explanationsVote(step.explanation, { body: { value: step.before } }),
    }[step.kind];
    await saver.save(async () => {
      try {
        await back();
      } catch (problem) {
        if (problem.status !== 404) throw problem; // it is gone already
      }
    }, "Taken back.");
    sessionStorage.setItem(STEPS, JSON.stringify(kept));
    await show(step.path, { words: "Taken back." });
  }

  /** Shows the feature again as it is now that something is stored, and what comes next. */
  async function stored(words) {
    await show(own(), { words, push: false });
    find("#next")?.focus();
  }

  function enliven() {
    data = given("data");
    for (const link of document.querySelectorAll("#next")) {
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        show(link.getAttribute("href")).catch(() => {});
      });
    }
    const back = find("#undo");
    if (back !== null) {
      back.hidden = false;
      back.addEventListener("click", () => undo().catch(() => {}));
    }
    if (data === null) {
      find("#at")?.scrollIntoView({ block: "nearest" });
      return;
    }
    if (data.mode === "write") writing();
    if (data.mode === "vote") voting();
    if (data.mode === "judge") judge({ data, saver, stored });
  }

  function writing() {
    const form = find("#own");
    if (form === null) return;
    form.hidden = false;
    find(".terminal").hidden = true;
    const { label, text } = form.elements;
    const name = `label:${data.sae}:${data.feature}`;
    if (data.done) keepDraft(name, null);
    if (keepFields(name, [label, text])) saver.say("What you wrote here and did not save is back in the fields.");
    for (const field of [label, text]) {
      field.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        if (field === label && text.value.trim() === "") text.focus();
        else form.requestSubmit();
      });
    }
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (saver.busy) return;
      const body = { text: text.value.trim() };
      if (label.value.trim() !== "") body.label = label.value.trim();
      if (body.text === "") return;
      const { sae, feature } = data;
      try {
        const made = await saver.save(() => api.explanationsExplain(sae, feature, { body }), "Saved.");
        keepDraft(name, null);
        remember({ kind: "write", explanation: made.id });
        await stored("Saved.");
      } catch {
        text.focus(); // the saver has said why
      }
    });
    if (!data.done) label.focus();
  }

  let chosen = null;

  function voting() {
    const articles = [...document.querySelectorAll("article.explanation")];
    choose(articles[0]);
    for (const article of articles) {
      for (const button of article.querySelectorAll("[data-vote]")) {
        button.hidden = false;
        button.addEventListener("click", () => vote(article, Number(button.dataset.vote)));
      }
    }
  }

  function choose(article) {
    chosen?.removeAttribute("aria-current");
    chosen = article ?? null;
    chosen?.setAttribute("aria-current", "true");
  }

  async function vote(article, value) {
    if (saver.busy) return;
    const { explanation, mine } = article.dataset;
    try {
      await saver.save(() => api.explanationsVote(explanation, { body: { value } }), "Saved.");
      remember({ kind: "vote", explanation, before: Number(mine) });
      await stored("Saved.");
    } catch {
      // The saver has said why.
    }
  }

  const ballot = (value) => () => data?.mode === "vote" && chosen && vote(chosen, value);
  onKey("+", "vote: it fits", ballot(1));
  onKey("-", "vote: it does not fit", ballot(-1));
  for (let number = 1; number <= 9; number += 1) {
    onKey(String(number), `choose explanation ${number}`, () => {
      const article = document.querySelectorAll("article.explanation")[number - 1];
      if (data?.mode === "vote" && article) choose(article);
    });
  }
  onKey("w", "write", () => find("#own input")?.focus());
  window.addEventListener("popstate", () =>
    show(location.pathname + location.search, { push: false }).catch(() => {}),
  );
  enliven();
}
