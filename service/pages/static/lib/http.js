// Calls of REST from pages: the session's token goes along, problems become errors with their words.

import { make } from "./state.js";

const root = document.documentElement.dataset;

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? `The server answered with status ${status}.`);
    this.status = status;
    this.title = body?.title ?? "Error";
    this.errors = body?.errors ?? [];
    this.requestId = body?.request_id ?? null;
    /** Seconds after which to ask again, where the server says. */
    this.retryAfter = retryAfter;
  }
}

/** Address of a path of ours, below the prefix that a proxy serves us under. */
export function address(path, query = {}) {
  const names = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") names.append(name, String(each));
    }
  }
  const shown = names.toString();
  return `${root.root ?? ""}${path}${shown ? `?${shown}` : ""}`;
}

/** The raw response; throws Problem for what is no success. */
export async function send(method, path, { query, body, headers = {}, signal } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined && !(body instanceof Blob)) sent["Content-Type"] = "application/json";
  if (method !== "GET" && root.csrf) sent["X-CSRF-Token"] = root.csrf;
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      headers: sent,
      body: body === undefined || body instanceof Blob ? body : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "The server does not answer." }, null);
  }
  if (!response.ok) {
    const wait = Number(response.headers.get("Retry-After"));
    const told = await response.json().catch(() => null);
    if (response.status === 401) return loggedOut(told);
    throw new Problem(response.status, told, Number.isFinite(wait) && wait > 0 ? wait : null);
  }
  return response;
}

/** The session has ended, here or in another window: leads to the login, and back. */
function loggedOut(told) {
  const next = location.pathname.slice((root.root ?? "").length) + location.search;
  if (document.getElementById("logged-out") === null) {
    const link = make("a", { href: address("/login", { next }) }, "Log in");
    const words = make("p", { class: "notice failed", id: "logged-out", role: "alert" }, "You are logged out. ", link, " to go on here.");
    document.querySelector("main").prepend(words);
  }
  throw new Problem(401, { ...told, detail: "You are logged out: log in to go on." }, null);
}

/** The answer's JSON; null for an answer without a body. */
export async function call(method, path, options = {}) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}
