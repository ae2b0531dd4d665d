// /graphs: a graph of another tool is sent as its file; what comes of it is opened.
import { address, send } from "../lib/http.js";
import { announce } from "../lib/state.js";

const form = document.getElementById("upload");
const said = document.getElementById("said");

if (form !== null) {
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [file] = form.elements.file.files;
    if (!file) return say("Choose the file first.");
    const button = form.querySelector("button");
    button.disabled = true;
    say(`${file.name} is sent and read …`, false);
    try {
      const headers = { "Content-Type": "application/json" };
      const answer = await send("POST", "/api/v1/graphs/upload", { body: new Blob([file]), headers });
      location.assign(address(`/graphs/${(await answer.json()).id}`));
    } catch (problem) {
      const first = problem.errors?.[0];
      say(first ? `${first.path ? `${first.path}: ` : ""}${first.message}` : problem.message);
      button.disabled = false;
    }
    return undefined;
  });
}

function say(words, failed = true) {
  said.textContent = words;
  said.classList.toggle("error", failed);
  announce(words);
}
