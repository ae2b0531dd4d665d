// Runs in words and elements: the same as service/pages/run_words.py and macros/runs.html.
import { count, duration, number, percent } from "./format.js";
import { make } from "./state.js";

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

export const hasEnded = (run) => ENDED.has(run.state);

const figure = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** Units come in the plural. */
const unit = (name, number) => (number === 1 ? String(name).replace(/s$/, "") : name);

/** @returns {{stage: string, share: number|null, text: string}|null} */
export function progress(data) {
  const done = figure(data?.done);
  if (done === null) return null;
  const total = figure(data.total);
  const counted = total ? `${count(Math.round(done))} of ${count(Math.round(total))}` : count(Math.round(done));
  const text = [data.unit ? `${counted} ${unit(data.unit, total || done)}` : counted];
  if (figure(data.rate)) text.push(`${number(data.rate)}/s`);
  if (figure(data.eta_seconds) !== null) text.push(`${duration(data.eta_seconds)} left`);
  return { stage: String(data.stage ?? ""), share: total ? Math.min(done / total, 1) : null, text: text.join(" · ") };
}

/** What a finished stage did. */
export function took(stage) {
  const parts = [];
  if (figure(stage.done) !== null) parts.push(`${count(Math.round(stage.done))} ${unit(stage.unit ?? "", stage.done)}`.trim());
  if (figure(stage.elapsed_seconds) !== null) parts.push(`in ${duration(stage.elapsed_seconds)}`);
  if (figure(stage.rate)) parts.push(`${number(stage.rate)}/s`);
  return parts.join(" · ");
}

/** How an event is to be seen, and its words; null for progress and stages. */
export function line(event) {
  const { type, data } = event;
  if (type === "log") {
    const rest = Object.entries(data).filter(([name, value]) => name !== "message" && typeof value !== "object");
    return ["log", [String(data.message ?? ""), ...rest.map(([name, value]) => `${name}=${value}`)].join(" ")];
  }
  if (type !== "state") return null;
  const { state, error } = data;
  if (data.takeover) return ["warn", "running again: taken over from a worker that was lost"];
  if (data.interrupted) return ["warn", "queued again: its worker had to stop"];
  if (data.retried) return ["change", "queued again by hand"];
  if (state === "queued" && error) {
    const wait = figure(data.retry_in_seconds);
    const again = wait === null ? "" : `, to be tried again in ${duration(wait)}`;
    return ["warn", `the attempt failed${again}: ${error}`];
  }
  const words = state === "running" && data.attempt ? `${state}, attempt ${data.attempt}` : state;
  return [state === "failed" ? "bad" : "change", error && error !== state ? `${words}: ${error}` : words];
}

export const badge = (state) => make("span", { class: "state", "data-state": state }, state);

/** A bar with its words, as in macros/runs.html. */
export function bar(run) {
  const at = run.state === "running" || run.state === "cancelling" ? progress(run.progress) : null;
  const box = make("span", { class: "progress", "data-progress": true });
  if (at === null) return box;
  box.append(
    make("span", { class: "stage" }, at.stage),
    " ",
    make("progress", { max: 1, value: at.share, "aria-label": at.stage }),
    " ",
    make("span", { class: "share" }, at.share === null ? "" : percent(at.share)),
    " ",
    make("span", { class: "quiet" }, at.text),
  );
  return box;
}

export function title(run) {
  const words = [run.kind, run.subject, run.other && `with ${run.other}`, run.scorer && `by ${run.scorer}`];
  return words.filter(Boolean).join(" ");
}

/** What a queued run waits for. */
export function waiting(told) {
  const ahead = told.ahead ?? 0;
  const place = ahead ? `${count(ahead)} ${ahead === 1 ? "goes" : "go"} before it` : "it is next";
  const busy = told.under_way ? `${count(told.under_way)} under way` : "none under way";
  return {
    turn: `Waits for a worker of the queue ${told.queue}: ${place}, ${busy}.`,
    time: "An attempt failed; it is tried again soon.",
    run: "Waits for another run to succeed.",
    "paused queue": `The queue ${told.queue} is paused: ${place} once it is resumed.`,
    "full queue": `The queue ${told.queue} is as full as it may be: ${place}, ${busy}.`,
    "full key": "Its API key has as many runs under way as it may have.",
  }[told.waits_for] ?? "";
}
