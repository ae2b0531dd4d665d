// Which heads carry an edge of a node, and why one looks where it looks: loaded when somebody opens that.

/** `part`: the `details` of a node, hidden as long as there is no script; null where a graph has none. */
export function offerHeads(part) {
  if (part === null) return;
  part.hidden = false;
  const opened = async () => part.open && (await import("./graph_heads.js")).begin(part);
  part.addEventListener("toggle", opened);
  opened();
}

offerHeads(document.getElementById("heads"));
