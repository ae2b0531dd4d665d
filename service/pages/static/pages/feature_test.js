// The box that tries one's own text on this feature alone.
import * as api from "../lib/api.js";
import { keepDraft, keepFields } from "../lib/drafts.js";
import { number, percent, plural } from "../lib/format.js";
import { make } from "../lib/state.js";
import { clipped, direction, level, shown } from "../lib/tokens.js";

export function installTest({ sae, index, maximum, told }) {
  const form = document.querySelector("#test-form");
  const output = form.querySelector("[role=status]");
  const result = form.querySelector(".result");
  const name = `test:${sae}:${index}`;
  keepFields(name, [form.elements.text]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    result.replaceChildren();
    told(output, async () => {
      output.textContent = "Reading …";
      const body = { sae, text: form.elements.text.value, features: [index], top_k: 1 };
      const answer = await api.inferenceActivations({ body });
      keepDraft(name, null);
      const values = answer.chosen[0].activations;
      result.append(drawn(answer.tokens.map((each) => each.text), values, maximum));
      return summary(answer.tokens, values, maximum);
    });
  });
}

function summary(tokens, values, maximum) {
  const firing = values.filter((value) => value > 0).length;
  if (firing === 0) return `It fires on none of ${plural(tokens.length, "token")}.`;
  const most = values.indexOf(Math.max(...values));
  const share = maximum > 0 ? `, ${percent(values[most] / maximum)} of its maximum` : "";
  const where = `“${shown(tokens[most].text)}” (${number(values[most])}${share})`;
  return `It fires on ${firing} of ${plural(tokens.length, "token")}, most on ${where}.`;
}

/** The text with its firing tokens marked; silent runs are text. */
export function drawn(texts, values, maximum) {
  const box = make("span", { class: "window", dir: direction(texts) });
  texts.forEach((text, place) => {
    const shade = level(values[place], maximum);
    if (shade === 0) {
      box.append(clipped(text));
      return;
    }
    const title = `${number(values[place])}, ${percent(values[place] / maximum)} of its maximum`;
    box.append(make("mark", { class: `h${shade}`, title }, clipped(text)));
  });
  return box;
}
