// Saves step by step: in order, again and again while the server does not answer, and says so.
import { announce } from "./state.js";

const LONGEST = 30;

/** Whether the same may succeed later: no answer, too much asked, or the server's own trouble. */
export const passing = (problem) => problem.status === 0 || problem.status === 429 || problem.status >= 500;

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/**
 * Saves one thing after another.  `element` is told what goes on; leaving the page while something
 * is not saved asks first.
 */
export class Saver {
  #element;
  #last = Promise.resolve();
  #waiting = 0;

  constructor(element) {
    this.#element = element;
    window.addEventListener("beforeunload", (event) => {
      if (this.#waiting > 0) event.preventDefault();
    });
  }

  get busy() {
    return this.#waiting > 0;
  }

  /**
   * The answer of `action`, which must be safe to do twice.  Rejects with the Problem for what no
   * further try would mend.  `failing`: what has not been done while the server does not answer.
   */
  save(action, words = "Saved.", failing = "Not saved") {
    this.#waiting += 1;
    const result = this.#last
      .then(() => this.#insist(action, words, failing))
      .finally(() => (this.#waiting -= 1));
    this.#last = result.catch(() => {});
    return result;
  }

  /** Says something in the same place. */
  say(words, bad = false) {
    this.#element.textContent = words;
    this.#element.classList.toggle("error", bad);
    announce(words);
  }

  async #insist(action, words, failing) {
    for (let tries = 0; ; tries += 1) {
      try {
        const answer = await action();
        this.say(words);
        return answer;
      } catch (problem) {
        if (problem.status === undefined || !passing(problem)) {
          this.say(`${failing}: ${problem.errors?.[0]?.message ?? problem.message}`, true);
          throw problem;
        }
        const seconds = Math.min(problem.retryAfter ?? 2 ** tries / 2, LONGEST);
        this.say(
          `${failing} yet: ${problem.message} It is tried again; nothing is lost while this page is open.`,
          true,
        );
        await pause(seconds);
      }
    }
  }
}
