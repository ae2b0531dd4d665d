// A text token by token: coloured, and walked through with the pointer or the keyboard.
import { clipped, direction } from "./tokens.js";
import { make } from "./state.js";

export class TokenText {
  /** `look(token)`: the pointer or the caret is there; `choose(token)`: it was clicked. */
  constructor(element, { look, choose }) {
    Object.assign(this, { element, look, choose });
    this.spans = [];
    this.shades = new Uint8Array(0);
    this.at = null;
    this.held = null;
    element.addEventListener("pointerover", (event) => this.#over(event));
    element.addEventListener("pointerleave", () => this.held !== null && this.go(this.held));
    element.addEventListener("click", (event) => {
      const token = this.#tokenOf(event.target);
      if (token !== null) this.hold(token);
    });
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** `rest`: what was not read, with the words that say so. */
  show(texts, rest = null) {
    this.at = this.held = null;
    this.shades = new Uint8Array(texts.length);
    this.element.dir = direction(texts);
    const all = document.createDocumentFragment();
    this.spans = texts.map((text, token) => {
      const span = spanOf(text, token);
      all.append(span);
      return span;
    });
    if (rest) all.append(make("span", { class: "end" }, rest.words), make("span", { class: "rest" }, rest.text));
    this.element.replaceChildren(all);
  }

  /** One more token at the end of a text that grows. */
  add(text) {
    const span = spanOf(text, this.spans.length);
    this.spans.push(span);
    this.element.append(span);
    if (!this.element.dir && /\p{L}/u.test(text)) this.element.dir = direction([text]);
  }

  colour(shades) {
    for (let token = 0; token < shades.length; token += 1) {
      const before = this.shades[token];
      const now = shades[token];
      if (before === now) continue;
      const { classList } = this.spans[token];
      if (before) classList.remove(`h${before}`);
      if (now) classList.add(`h${now}`);
    }
    this.shades = shades;
  }

  /** Looks at a token. */
  go(token, { scroll = false } = {}) {
    if (token === this.at) return;
    const before = this.spans[this.at];
    if (before) {
      before.classList.remove("here");
      before.removeAttribute("id");
    }
    const span = this.spans[token];
    span.classList.add("here");
    span.id = "token-here";
    this.element.setAttribute("aria-activedescendant", "token-here");
    this.at = token;
    if (scroll) span.scrollIntoView({ block: "nearest" });
    this.look(token);
  }

  /** Stays with a token, wherever the pointer goes. */
  hold(token) {
    this.spans[this.held]?.classList.remove("held");
    this.spans[token].classList.add("held");
    this.held = token;
    this.go(token, { scroll: true });
    this.choose(token);
  }

  #over(event) {
    const token = this.#tokenOf(event.target);
    if (token !== null) this.go(token);
  }

  #tokenOf(target) {
    const token = target.dataset?.i;
    return token === undefined ? null : Number(token);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.spans.length === 0) return;
    const forward = getComputedStyle(this.element).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const steps = { ArrowRight: forward === "ArrowRight" ? 1 : -1, ArrowLeft: forward === "ArrowLeft" ? 1 : -1 };
    const last = this.spans.length - 1;
    const from = this.held ?? this.at ?? -1;
    let to = null;
    if (event.key in steps) to = from + steps[event.key];
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = last;
    if (to === null) return;
    event.preventDefault();
    this.hold(Math.min(last, Math.max(0, to)));
  }
}

function spanOf(text, token) {
  const span = document.createElement("span");
  span.textContent = clipped(text);
  if (text.endsWith("\n")) span.className = "broken";
  span.dataset.i = token;
  return span;
}
