// A row of a table is current: j and k go through them, Enter opens what the row is about.
import { onKey } from "./keys.js";

/** `table`: the table, or what gives the one that is on the page now.  `changed(row)` is told of each new current row. */
export function currentRow(table, { what = "row", changed = () => {} } = {}) {
  const rows = () => [...((typeof table === "function" ? table() : table)?.tBodies[0].rows ?? [])];
  let current = null;
  const choose = (row) => {
    if (row === undefined || row === null) return;
    current?.removeAttribute("aria-current");
    current = row;
    row.setAttribute("aria-current", "true");
    row.scrollIntoView({ block: "nearest" });
    changed(row);
  };
  onKey("j", `next ${what}`, () => choose(rows()[rows().indexOf(current) + 1]));
  onKey("k", `${what} before`, () => choose(rows()[Math.max(0, rows().indexOf(current) - 1)]));
  onKey("Enter", `open the ${what}`, () => current?.querySelector("th a")?.click());
  return { get row() { return current; }, choose };
}
