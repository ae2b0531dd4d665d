// At which tokens a text is pushed: the fields of a form, as REST takes them and as the address keeps them.
import { number } from "./format.js";

/** The fields that say at which tokens is pushed. */
export class Places {
  constructor(form) {
    this.fields = form.elements;
    const boxes = [...form.querySelectorAll("[data-at]")];
    const show = () => {
      for (const box of boxes) {
        box.hidden = !box.dataset.at.split(" ").includes(this.where);
        // What is not seen is not asked for.
        for (const each of box.querySelectorAll("input, textarea")) each.disabled = box.hidden;
      }
    };
    this.fields.where.addEventListener("change", show);
    show();
  }

  get where() {
    return this.fields.where.value;
  }

  get named() {
    const lines = (field) => field.value.split("\n").filter((each) => each !== "");
    const kinds = [...this.fields.named].filter((each) => each.checked).map((each) => each.value);
    return { texts: lines(this.fields.text), contains: lines(this.fields.part), kinds };
  }

  get isEmpty() {
    return this.where === "tokens" && Object.values(this.named).every((each) => each.length === 0);
  }

  /** As REST takes it. */
  get body() {
    const where = this.where;
    const { first, last, special } = this.fields;
    if (where === "range") return { where, range: { first: Number(first.value), last: Number(last.value) } };
    if (where === "tokens") return { where, tokens: this.named };
    return { where, special_tokens: !special.disabled && special.checked };
  }

  /** As the address keeps it. */
  get query() {
    const { range, tokens, special_tokens: special } = this.body;
    return {
      where: this.where === "all" ? null : this.where,
      special: special || null,
      first: range?.first ?? null,
      last: range?.last ?? null,
      text: tokens?.texts ?? null,
      part: tokens?.contains ?? null,
      kind: tokens?.kinds ?? null,
    };
  }

  said({ pushed, tokens }) {
    const later = { prompt: "", range: "", special: " New ones are if they are special.", tokens: " New ones are where they are among those chosen." }[this.where] ?? " All new ones are.";
    return Number.isInteger(pushed) ? `Pushed at ${number(pushed, 3, true)} of the prompt's ${number(tokens, 3, true)} tokens.${later}` : "";
  }
}
