// Asks for what the page did not wait for; the server draws it.
import * as api from "../lib/api.js";
import { refresh } from "../lib/refresh.js";
import { make } from "../lib/state.js";

const box = document.querySelector("#found[data-asked]");

if (box !== null) {
  api.systemFindings()
    .then(() => refresh("verdict", "found"))
    .catch((problem) => box.replaceChildren(make("p", { class: "error" }, problem.message)));
}
