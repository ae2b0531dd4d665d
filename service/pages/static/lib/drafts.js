// What is written and not sent yet: this tab keeps it over a reload, until it is sent.

const PREFIX = "monosemy:draft:";

/** The draft of this name; null without one. */
export function draft(name) {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

/** Keeps `value` under `name`; null forgets it. */
export function keepDraft(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(PREFIX + name);
    else sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Private windows may refuse, or there is no room; the page works without.
  }
}

/**
 * Keeps what is written in `fields`, by their names, and puts back what was kept.
 *
 * @returns {boolean} whether there was something
 */
export function keepFields(name, fields) {
  const written = draft(name);
  for (const field of fields) {
    if (written !== null) field.value = written[field.name] ?? "";
    field.addEventListener("input", () => keepDraft(name, Object.fromEntries(fields.map((each) => [each.name, each.value]))));
  }
  return written !== null;
}
