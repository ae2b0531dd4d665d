// Asks for what the page did not wait for.
import * as api from "../lib/api.js";
import { make } from "../lib/state.js";

const box = document.querySelector("#found[data-asked]");
const RANK = { failed: 0, warning: 1, ok: 2 };

function item(each) {
  const words = [make("b", {}, each.check), " ", make("span", { class: "status" }, each.status), make("br"), each.detail];
  if (each.advice) words.push(make("br"), make("span", { class: "advice" }, each.advice));
  return make("li", { class: each.status }, ...words);
}

if (box !== null) {
  api.systemFindings().then(
    ({ items }) => {
      const sorted = items.toSorted((a, b) => RANK[a.status] - RANK[b.status]);
      box.replaceChildren(make("ul", { class: "findings" }, ...sorted.map(item)));
    },
    (problem) => box.replaceChildren(make("p", { class: "error" }, problem.message)),
  );
}
