// /saes/upload: files are sent as they are read; what came is shown, to be imported or thrown away.
import * as api from "../lib/api.js";
import { size } from "../lib/format.js";
import { address } from "../lib/http.js";
import { announce, given, make } from "../lib/state.js";

const { endings, most } = given("data");
const find = (id) => document.getElementById(id);
const form = find("upload");
const message = find("said");

form.hidden = false;
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = [...form.elements.files.files, ...form.elements.folder.files];
  const named = chosen.map((file) => ({ file, name: file.webkitRelativePath || file.name }));
  const isTaken = ({ name }) => endings.some((ending) => name.toLowerCase().endsWith(ending));
  const taken = named.filter(isTaken);
  const left = named.filter((each) => !isTaken(each));
  if (taken.length === 0) {
    say(named.length === 0 ? "Choose the files first." : `None of these files is taken: ${left.map((each) => each.name).join(", ")}`, true);
    return;
  }
  const total = taken.reduce((sum, { file }) => sum + file.size, 0);
  if (total > most) {
    say(`These files have ${size(total)}; ${size(most)} is the most.`, true);
    return;
  }
  send(taken, left);
});

function say(words, bad = false) {
  message.textContent = words;
  message.classList.toggle("error", bad);
  announce(words);
}

/** An XMLHttpRequest says how much was sent, which fetch does not. */
function send(taken, left) {
  const body = new FormData();
  for (const { file, name } of taken) body.append("files", file, name);
  const request = new XMLHttpRequest();
  const [progress, stop, button] = [find("sent"), find("stop"), form.querySelector("button")];
  const underWay = (on) => {
    for (const part of [progress, stop]) part.hidden = !on;
    button.disabled = on;
  };
  request.open("POST", address("/api/v1/saes/uploads"));
  request.setRequestHeader("Accept", "application/json");
  if (document.documentElement.dataset.csrf) request.setRequestHeader("X-CSRF-Token", document.documentElement.dataset.csrf);
  request.responseType = "json";
  request.upload.onprogress = ({ loaded, total }) => {
    progress.value = total ? loaded / total : 0;
    message.textContent = loaded < total ? `${size(loaded)} of ${size(total)}` : "It is unpacked and checked …";
  };
  request.onload = () => {
    underWay(false);
    const answer = request.response;
    if (request.status === 201) received(answer, left);
    else say(answer?.errors?.[0]?.message ?? answer?.detail ?? `The server answered with status ${request.status}.`, true);
  };
  request.onerror = () => {
    underWay(false);
    say("The server does not answer, or hung up: nothing was stored. Try again.", true);
  };
  request.onabort = () => {
    underWay(false);
    say("Stopped; nothing was stored.");
  };
  stop.onclick = () => request.abort();
  message.classList.remove("error");
  underWay(true);
  request.send(body);
}

function received(upload, left) {
  say(left.length === 0 ? "Uploaded." : `Uploaded. Not sent: ${left.map((each) => each.name).join(", ")}`);
  form.hidden = true;
  find("receipt").hidden = false;
  find("receipt").before(message);
  find("source").textContent = upload.source;
  find("bytes").textContent = size(upload.bytes);
  find("files").replaceChildren(
    ...upload.files.map((file) => make("tr", {}, make("td", {}, file.name), make("td", { class: "n" }, size(file.bytes)))),
  );
  const link = find("import");
  link.href = address("/runs/new", { kind: "import", set: `source=${upload.source}` });
  link.focus();
  find("discard").addEventListener("click", async () => {
    try {
      await api.uploadsDelete(upload.id);
      find("receipt").hidden = true;
      form.hidden = false;
      form.reset();
      form.append(message);
      say("The upload is deleted.");
    } catch (problem) {
      say(problem.message, true);
    }
  });
}
