// A text that a model writes while it is watched: its tokens, and where it parts from another.
import { make } from "./state.js";
import { TokenText } from "./token_text.js";

export class Written {
  /** `look(written, token)`: somebody looks at a token. */
  constructor(name, look) {
    this.name = name;
    this.tokens = [];
    /** The text that this one is compared with. */
    this.beside = null;
    /** Which of its tokens is the first that the other text has not. */
    this.parts = null;
    /** Whether it came to its end. */
    this.whole = false;
    this.watchers = [];
    this.box = make("div", { class: "window breaks read", tabindex: "0", role: "group", "aria-label": name });
    this.foot = make("span", { class: "quiet" });
    this.text = new TokenText(this.box, { look: (token) => look(this, token), choose: () => {} });
  }

  figure(caption) {
    return make("figure", {}, make("figcaption", {}, caption), this.box, this.foot);
  }

  begin() {
    this.box.classList.add("going");
  }

  add(token) {
    this.tokens.push(token);
    this.text.add(token.text);
    for (const watch of this.watchers) watch();
  }

  /** `words`: how it ended. */
  end(words, { whole }) {
    this.box.classList.remove("going");
    this.whole = whole;
    this.foot.textContent = words;
    for (const watch of this.watchers) watch();
  }

  differs(place) {
    const span = this.text.spans[place];
    if (span === undefined) return;
    span.classList.add("differs");
    span.title = "The first token that differs.";
  }
}

/** Marks the first token of `written` that `beside` has not, as soon as it is known; in both texts
 * where `mutual`. */
export function markFirstDifference(written, beside, mutual) {
  let compared = 0;
  const mark = (place) => {
    written.parts = place;
    written.differs(place);
    if (mutual) {
      beside.parts = place;
      beside.differs(place);
    }
  };
  const look = () => {
    if (written.parts !== null) return;
    const both = Math.min(written.tokens.length, beside.tokens.length);
    for (; compared < both; compared += 1) {
      if (written.tokens[compared].id !== beside.tokens[compared].id) {
        mark(compared);
        return;
      }
    }
    if (written.whole && beside.whole && written.tokens.length !== beside.tokens.length) mark(both);
  };
  written.beside = beside;
  if (mutual) beside.beside = written;
  for (const each of [written, beside]) each.watchers.push(look);
}
