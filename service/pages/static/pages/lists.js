// /lists: a list is begun.
import * as api from "../lib/api.js";
import { address } from "../lib/http.js";

const form = document.getElementById("new-list");
form.hidden = false;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = form.querySelector(".error");
  error.textContent = "";
  try {
    const body = Object.fromEntries(new FormData(form));
    const made = await api.listsMake({ body });
    location.assign(address(`/lists/${made.id}`));
  } catch (problem) {
    error.textContent = problem.errors?.[0]?.message ?? problem.message;
  }
});
