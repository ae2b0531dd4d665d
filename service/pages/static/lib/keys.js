// Keys.  An element says which key presses it: data-key="j" data-says="next feature"; data-go="s" is
// pressed after g.  Links and buttons are clicked, fields are focused.

const TYPING = "input, textarea, select, [contenteditable]";

/** A key for what has no element of its own; gives the button that it presses. */
export function onKey(key, says, action) {
  const button = Object.assign(document.createElement("button"), { type: "button", hidden: true });
  button.dataset.key = key;
  button.dataset.says = says;
  button.addEventListener("click", action);
  document.body.append(button);
  return button;
}

export function installKeys({ isOff, setOff }) {
  let going = -Infinity;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape" && document.activeElement?.matches(TYPING)) {
      document.activeElement.blur();
      return;
    }
    if (isOff() || event.target.closest?.(TYPING) || document.querySelector("dialog[open]")) return;
    const now = performance.now();
    if (event.key === "g" && now - going > 1500) {
      going = now;
      return;
    }
    const wanted = now - going < 1500 ? "data-go" : "data-key";
    going = -Infinity;
    const element = document.querySelector(`[${wanted}="${CSS.escape(event.key)}"]:not([disabled])`);
    if (element === null) return;
    event.preventDefault();
    if (element.matches(TYPING)) element.focus();
    else element.click();
  });
  const button = document.querySelector("[data-keys-help]");
  button.hidden = false;
  button.addEventListener("click", () => showKeys(isOff, setOff));
}

function showKeys(isOff, setOff) {
  const rows = [];
  for (const element of document.querySelectorAll("[data-key], [data-go]")) {
    const { key, go, says } = element.dataset;
    const row = document.createElement("tr");
    const keys = document.createElement("td");
    for (const each of go ? ["g", go] : [key]) {
      keys.append(Object.assign(document.createElement("kbd"), { textContent: each }), " ");
    }
    row.append(keys, Object.assign(document.createElement("td"), { textContent: says ?? element.textContent.trim() }));
    rows.push(row);
  }
  const off = Object.assign(document.createElement("input"), { type: "checkbox", checked: isOff() });
  off.addEventListener("change", () => setOff(off.checked));
  const label = document.createElement("label");
  label.append(off, " switch single keys off");
  const table = document.createElement("table");
  table.append(...rows);
  const close = Object.assign(document.createElement("button"), { textContent: "Close" });
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", "Keys");
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.append(table, label, close);
  document.body.append(dialog);
  dialog.showModal();
}
