// What the pages that send texts share: how a call goes, texts and chats, links with the text in them.
import { Problem } from "./http.js";
import { announce, fromFragment, make, toFragment } from "./state.js";

const LOADING_AFTER = 4;

/** One call at a time, told on a line: how long it takes, why it failed, when it is tried again. */
export class Asking {
  constructor(line, { loading = "The first request loads the model and the SAE." } = {}) {
    this.line = line;
    this.loading = loading;
    this.abort = null;
  }

  /** What `work(signal)` gives; null where it failed or was stopped. A busy or absent service is
   * asked again when it says, until somebody stops that. A call under way is stopped first. */
  async run(words, work) {
    this.stop();
    const abort = (this.abort = new AbortController());
    const mine = () => this.abort === abort;
    for (;;) {
      const ticking = this.#tick(words);
      try {
        const result = await work(abort.signal);
        if (!mine()) return null;
        this.say("");
        return result;
      } catch (error) {
        if (!mine() || abort.signal.aborted) return null;
        if (!(error instanceof Problem)) {
          this.fail({ title: "The page failed", message: String(error), errors: [], requestId: null });
          throw error;
        }
        if (error.retryAfter === null) {
          this.fail(error);
          return null;
        }
        clearInterval(ticking);
        if (!(await this.#countdown(error, abort.signal))) return null;
      } finally {
        clearInterval(ticking);
      }
    }
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }

  say(words, ...more) {
    this.line.className = "asked";
    this.line.hidden = words === "" && more.length === 0;
    this.line.replaceChildren(words, ...more);
  }

  fail(problem) {
    this.line.className = "asked failed";
    this.line.hidden = false;
    const told = problem.errors.map(({ path, message }) => make("li", {}, path ? `${path}: ${message}` : message));
    this.line.replaceChildren(
      make("strong", {}, problem.title),
      `: ${problem.message}`,
      told.length ? make("ul", {}, ...told) : "",
      problem.requestId ? make("span", { class: "quiet" }, ` Request ${problem.requestId}.`) : "",
    );
  }

  #tick(words) {
    const begun = performance.now();
    const seconds = make("span", { "aria-hidden": "true" });
    const loading = make("span");
    this.say(`${words}… `, seconds, loading);
    return setInterval(() => {
      const passed = Math.floor((performance.now() - begun) / 1000);
      seconds.textContent = passed ? `${passed} s` : "";
      if (passed >= LOADING_AFTER && !loading.textContent) loading.textContent = ` ${this.loading}`;
    }, 500);
  }

  /** Waits as long as the service asks for; false where somebody stopped it. */
  #countdown(problem, signal) {
    return new Promise((resolve) => {
      let left = Math.ceil(problem.retryAfter);
      const seconds = make("span", { "aria-hidden": "true" });
      const say = () => {
        seconds.textContent = `Trying again in ${left} s.`;
      };
      const end = (again) => {
        clearInterval(ticking);
        if (!again) this.fail(problem);
        resolve(again);
      };
      const ticking = setInterval(() => {
        left -= 1;
        say();
        if (left <= 0) end(true);
      }, 1000);
      say();
      this.fail(problem);
      this.line.append(
        " ", seconds, " ",
        make("button", { type: "button", onclick: () => end(true) }, "Try now"), " ",
        make("button", { type: "button", onclick: () => end(false) }, "Stop"),
      );
      signal.addEventListener("abort", () => {
        clearInterval(ticking);
        resolve(false);
      });
    });
  }
}

/** A text or a chat that somebody writes; `kinds`: the radio buttons that say which. */
export class PromptBox {
  constructor(box, kinds, { most, ending = true, label = "The text" }) {
    Object.assign(this, { box, kinds: [...kinds], most, ending, label });
    this.onchange = () => {};
    for (const kind of this.kinds) kind.addEventListener("change", () => this.set(this.#other(kind.value)));
    box.addEventListener("input", () => this.onchange());
    this.set({ text: "" });
  }

  /** `{text}` or `{messages, generation_prompt}`; null where nothing is written. */
  get value() {
    if (this.kind === "text") {
      const text = this.box.querySelector("textarea").value;
      return text ? { text } : null;
    }
    const messages = [...this.box.querySelectorAll(".message")].map((each) => ({
      role: each.querySelector("select").value,
      content: each.querySelector("textarea").value,
    }));
    if (!messages.some((each) => each.content)) return null;
    const ending = this.box.querySelector("[data-ending]");
    return ending ? { messages, generation_prompt: ending.checked } : { messages };
  }

  /** Characters of its longest part. */
  get length() {
    return Math.max(...[...this.box.querySelectorAll("textarea")].map((each) => Array.from(each.value).length));
  }

  get isTooLong() {
    return this.length > this.most;
  }

  set(value) {
    this.kind = value.messages ? "chat" : "text";
    for (const each of this.kinds) each.checked = each.value === this.kind;
    if (this.kind === "text") {
      this.box.replaceChildren(make("textarea", { class: "text", rows: 4, "aria-label": this.label, spellcheck: "false", dir: "auto" }));
      this.box.firstChild.value = value.text ?? "";
    } else {
      this.box.replaceChildren(...value.messages.map((each) => this.#message(each)), this.#more(value.generation_prompt === true));
    }
    this.onchange();
  }

  #other(kind) {
    const before = [...this.box.querySelectorAll("textarea")].map((each) => each.value);
    return kind === "chat" ? { messages: [{ role: "user", content: before[0] ?? "" }] } : { text: before.join("\n") };
  }

  #message({ role, content }) {
    const roles = ["system", "user", "assistant"];
    if (!roles.includes(role)) roles.push(role);
    const choice = make("select", { "aria-label": "Who says it" }, ...roles.map((each) => make("option", {}, each)));
    choice.value = role;
    const text = make("textarea", { class: "text", rows: 2, "aria-label": "What is said", spellcheck: "false", dir: "auto" });
    text.value = content;
    const drop = make("button", { type: "button", class: "plain", "aria-label": "Without this message", onclick: () => {
      row.remove();
      if (!this.box.querySelector(".message")) this.set({ messages: [{ role: "user", content: "" }] });
      this.onchange();
    } }, "×");
    const row = make("div", { class: "message" }, choice, text, drop);
    return row;
  }

  #more(ends) {
    const add = make("button", { type: "button", onclick: () => {
      const last = [...this.box.querySelectorAll(".message select")].at(-1)?.value;
      const row = this.#message({ role: last === "user" ? "assistant" : "user", content: "" });
      line.before(row);
      row.querySelector("textarea").focus();
    } }, "Another message");
    const ending = make("input", { type: "checkbox", "data-ending": true });
    ending.checked = ends;
    const label = make("label", {}, ending, " and what the template puts before an answer");
    const line = make("div", { class: "actions" }, add, this.ending ? label : null);
    return line;
  }
}

/** Puts `value` into the fragment as `name`, and into the links and forms that keep it. */
export async function keepInFragment(name, value) {
  const hash = `#${name}=${await toFragment(value)}`;
  history.replaceState(null, "", hash);
  carryFragment();
}

/** What the fragment holds as `name`; null where it holds none that can be read. */
export async function inFragment(name) {
  const held = new URLSearchParams(location.hash.slice(1)).get(name);
  return held === null ? null : fromFragment(held);
}

/** Links and forms marked with `data-keeps-text` take this page's fragment along. */
export function carryFragment() {
  for (const element of document.querySelectorAll("[data-keeps-text]")) {
    if (element.matches("a")) element.hash = location.hash;
    else element.action = location.pathname + location.hash;
  }
}

/** Shows what needs a script, and puts the commands behind their summary. */
export function scriptStarted() {
  for (const each of document.querySelectorAll("[data-commands]")) each.open = false;
  for (const each of document.querySelectorAll("[data-no-script]")) each.hidden = true;
  for (const each of document.querySelectorAll("[data-ask]")) each.hidden = false;
}

/** Ctrl and Enter, in any of its fields, sends a form whose main button can be pressed. */
export function sentByKeys(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !form.querySelector(".main").disabled) form.requestSubmit();
  });
}

/** A button that copies this page's address. */
export function sharing(button) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      announce("The link is copied. The text is in it, behind the #.");
      button.textContent = "Copied";
    } catch {
      announce("The browser does not let the page copy: take the link from the address bar.");
      button.textContent = "Copy it from the address bar";
    }
    setTimeout(() => (button.textContent = "Copy link"), 2500);
  });
}
