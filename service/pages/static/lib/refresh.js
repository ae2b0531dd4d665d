// Parts of a page that the server draws anew: the page is asked for again, its parts put in place of ours.
// There is one way to draw a thing, and it is the server's.
import { Problem } from "./http.js";
import { localTimes } from "./shell.js";

/** Replaces the elements of these ids by those of the page as it is now. */
export async function refresh(...ids) {
  take(await pageAt(location.pathname + location.search), ...ids);
}

/** Puts the elements of these ids of another page in place of ours. */
export function take(fresh, ...ids) {
  for (const id of ids) {
    const old = document.getElementById(id);
    const next = fresh.getElementById(id);
    if (old === null || next === null) continue;
    const place = placeOfFocus(old);
    old.replaceWith(document.adoptNode(next));
    localTimes(next);
    document.dispatchEvent(new CustomEvent("refreshed", { detail: next }));
    if (place >= 0) focusables(next)[place]?.focus();
  }
}

/** A page of ours as a document without scripts.  (A parser of texts would need a trusted type.) */
export function pageAt(path) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.setRequestHeader("Accept", "text/html");
    request.responseType = "document";
    request.onload = () =>
      request.status === 200 && request.response
        ? resolve(request.response)
        : reject(new Problem(request.status, { detail: "The page could not be loaded." }, null));
    request.onerror = () => reject(new Problem(0, { detail: "The server does not answer." }, null));
    request.send();
  });
}

const focusables = (part) => [...part.querySelectorAll("a[href], button, input, select, textarea, [tabindex]")];

function placeOfFocus(part) {
  return focusables(part).indexOf(document.activeElement);
}
