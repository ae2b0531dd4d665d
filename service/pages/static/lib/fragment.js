// A part of a page as the server draws it at another address, put in place of the one that is here.

/**
 * Replaces the element `selector` by that of `address`; the caller changes the URL where it should.
 * Rejects for an answer that is no success.  (Parsed by the request itself: texts are not turned into
 * markup by script, which the policy forbids.)
 */
export async function replacePart(address, selector, signal) {
  const page = await loaded(address, signal);
  const fresh = page.querySelector(selector);
  const old = document.querySelector(selector);
  if (fresh === null || old === null) throw new Error(`There is no ${selector} at ${address}.`);
  const part = document.importNode(fresh, true);
  old.replaceWith(part);
  return part;
}

function loaded(address, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", address);
    request.responseType = "document";
    request.setRequestHeader("Accept", "text/html");
    request.onload = () => {
      if (request.status === 200 && request.response !== null) resolve(request.response);
      else reject(new Error(`The server answered with status ${request.status}.`));
    };
    request.onerror = () => reject(new Error("The server does not answer."));
    signal?.addEventListener("abort", () => {
      request.abort();
      reject(new DOMException("Another one was asked for.", "AbortError"));
    });
    request.send();
  });
}
