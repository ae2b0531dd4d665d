// /saes/{sae}: bars of the density histogram filter the table below, one or a range of them.
import { replacePart } from "../lib/fragment.js";
import { announce, given } from "../lib/state.js";

const { edges, address } = given("data");
const box = document.getElementById("density");
const links = [...(box?.querySelectorAll("a") ?? [])];
let from = null;
let asking = null;

if (links.length > 0) {
  document.getElementById("brush-hint").hidden = false;
  box.addEventListener("pointerdown", begin);
  box.addEventListener("pointermove", (event) => from !== null && mark(from, barAt(event)));
  box.addEventListener("dragstart", (event) => event.preventDefault());
  window.addEventListener("pointerup", end);
  box.addEventListener("click", clicked);
  window.addEventListener("popstate", () => show(location.href));
  markFromAddress();
}

/** The bar below, or nearest to, the pointer. */
function barAt(event) {
  let best = 0;
  let distance = Infinity;
  links.forEach((link, i) => {
    const place = link.getBoundingClientRect();
    const away = Math.max(place.left - event.clientX, event.clientX - place.right, 0);
    if (away < distance) [best, distance] = [i, away];
  });
  return best;
}

function begin(event) {
  if (event.button !== 0 || event.ctrlKey || event.metaKey) return;
  from = barAt(event);
  mark(from, from);
}

function end(event) {
  if (from === null) return;
  const [first, last] = [from, barAt(event)].sort((a, b) => a - b);
  from = null;
  filter(first, last);
}

/** By keyboard, where there was no pointer: Enter on a bar, with shift up to it. */
function clicked(event) {
  const link = event.target.closest("a");
  if (link === null || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  if (event.detail !== 0) return;
  const at = links.indexOf(link);
  const chosen = links.findIndex((each) => each.classList.contains("chosen"));
  const start = event.shiftKey && chosen >= 0 ? chosen : at;
  filter(Math.min(start, at), Math.max(start, at));
}

function mark(first, last) {
  links.forEach((link, i) => {
    const within = i >= Math.min(first, last) && i <= Math.max(first, last);
    link.classList.toggle("chosen", within);
  });
}

function filter(first, last) {
  mark(first, last);
  const wanted = `${address}?min_density=${edges[first]}&max_density=${edges[last + 1]}`;
  history.pushState(null, "", wanted);
  show(wanted);
}

async function show(wanted) {
  asking?.abort();
  asking = new AbortController();
  markFromAddress();
  try {
    const part = await replacePart(wanted, "#features", asking.signal);
    announce(`${part.querySelector("h2").textContent}: ${part.querySelectorAll("tbody tr").length} shown`);
  } catch (error) {
    if (error.name !== "AbortError") location.assign(wanted);
  }
}

function markFromAddress() {
  const asked = new URLSearchParams(location.search);
  const [low, high] = [Number(asked.get("min_density")), Number(asked.get("max_density"))];
  links.forEach((link, i) => {
    const within = asked.has("min_density") && asked.has("max_density") && edges[i] >= low && edges[i + 1] <= high;
    link.classList.toggle("chosen", within);
  });
}
