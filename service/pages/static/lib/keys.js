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
  // Loaded when somebody asks.
  button.addEventListener("click", async () => (await import("./keys_help.js")).showKeys(isOff, setOff));
}
