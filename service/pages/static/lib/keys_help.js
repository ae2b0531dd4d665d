// The keys of a page, as a dialog; there single keys are switched off.

export function showKeys(isOff, setOff) {
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
