// /label in the mode "judge": the texts of a sitting, one after the other.
import * as api from "../lib/api.js";
import { make } from "../lib/state.js";
import { shown } from "../lib/tokens.js";

const ANSWERS = { yes: true, no: false, skip: null };
let current = null;

/** Makes the test on the page live.  `stored` shows what came of it. */
export function judge({ data, saver, stored }) {
  current = null;
  const begin = document.getElementById("begin");
  if (begin === null) return;
  begin.hidden = false;
  begin.focus();
  begin.addEventListener("click", async () => {
    begin.disabled = true;
    saver.say("The texts are being drawn …");
    try {
      const sitting = await saver.save(() => started(data, begin.dataset.again), "");
      ask({ sitting, saver, stored, asked: [] });
    } catch {
      begin.disabled = false; // the saver has said why
      document.getElementById("next")?.focus();
    }
  });
}

/** The sitting that is open, else a judge's own texts, else others. */
async function started(data, again) {
  if (data.sitting !== null) return api.sittingsShow(data.sitting);
  if (data.like !== null && !again) {
    try {
      return await api.sittingsBegin(data.explanation, { body: { like: data.like } });
    } catch (problem) {
      if (problem.status !== 409) throw problem; // known, or gone: then others
    }
  }
  return api.sittingsBegin(data.explanation, { body: {} });
}

function ask(state) {
  current = state;
  const question = document.getElementById("question") ?? addQuestion();
  for (const id of ["begin", "intro"]) {
    const part = document.getElementById(id);
    if (part !== null) part.hidden = true;
  }
  question.hidden = false;
  document.activeElement?.blur();
  for (const button of question.querySelectorAll("[data-answer]")) {
    button.addEventListener("click", () => answer(state, ANSWERS[button.dataset.answer]));
  }
  next(state);
}

/** Below what came of an earlier sitting there is none yet. */
function addQuestion() {
  const button = (name, key, says, words = name) =>
    make("button", { type: "button", "data-answer": name, "data-key": key, "data-says": says }, make("kbd", {}, key), ` ${words}`);
  const made = make("div", { id: "question" },
    make("progress", { id: "asked", max: 1, value: 0, "aria-label": "texts answered" }), " ",
    make("span", { id: "count", class: "quiet" }),
    make("blockquote", { id: "text", class: "window", "aria-live": "polite" }),
    make("p", { class: "actions answers" }, button("yes", "y", "yes, it occurs"), button("no", "n", "no, it does not"), button("skip", "s", "unsure: not counted", "unsure, skip")));
  document.querySelector(".came").remove();
  document.querySelector(".judging").append(made);
  return made;
}

function next(state) {
  const { texts } = state.sitting;
  const left = texts.filter((each) => !each.answered);
  state.text = left[0] ?? null;
  document.getElementById("asked").value = (texts.length - left.length) / texts.length;
  if (state.text === null) {
    end(state);
    return;
  }
  document.getElementById("count").textContent = `text ${texts.length - left.length + 1} of ${texts.length}`;
  document.getElementById("text").textContent = shown(state.text.text);
}

async function answer(state, said) {
  const { sitting, saver, text } = state;
  if (text === null || saver.busy) return;
  try {
    await saver.save(() => api.sittingsAnswer(sitting.id, text.number, { body: { answer: said } }));
  } catch {
    return; // the saver has said why
  }
  Object.assign(text, { answered: true, answer: said });
  state.asked.push(text);
  next(state);
}

async function end({ sitting, saver, stored }) {
  current = null;
  try {
    await saver.save(() => api.sittingsEnd(sitting.id), "Summed up.");
    await stored("Summed up.");
  } catch {
    document.getElementById("next")?.focus();
  }
}

/** Puts the last text of this sitting again; false where there is none. */
export async function takeAnswerBack(saver) {
  const text = current?.asked.pop();
  if (text === undefined) return false;
  try {
    await saver.save(() => api.sittingsTakeBack(current.sitting.id, text.number), "Taken back.");
  } catch {
    current.asked.push(text);
    return true;
  }
  Object.assign(text, { answered: false, answer: null });
  next(current);
  return true;
}
