// JSON schemas of specs, as far as a form needs them.

/** Follows `$ref`; what stands beside it goes before what it refers to. */
export function resolved(schema, root) {
  let at = schema;
  while (at.$ref) {
    const { $ref, ...beside } = at;
    at = { ...root.$defs[$ref.split("/").at(-1)], ...beside };
  }
  return at;
}

/**
 * What sort of field a schema describes.
 *
 * @returns {{sort: "const"|"choice"|"boolean"|"number"|"text"|"object"|"union"|"list"|"items"|"json",
 *   schema: object, nullable: boolean}} list: of plain values; items: of objects
 */
export function fieldOf(given, root) {
  let schema = resolved(given, root);
  let nullable = false;
  if (schema.anyOf) {
    const choices = schema.anyOf.map((each) => resolved(each, root));
    nullable = choices.some((each) => each.type === "null");
    const rest = choices.filter((each) => each.type !== "null");
    // One of something or several of it: several.
    const chosen = rest.find((each) => each.type === "array") ?? (rest.length === 1 ? rest[0] : null);
    if (chosen === null) return { sort: "json", schema, nullable };
    const { anyOf, ...beside } = schema;
    schema = { ...chosen, ...beside };
  }
  return { sort: sortOf(schema, root), schema, nullable };
}

function sortOf(schema, root) {
  if (schema.const !== undefined) return "const";
  if (schema.oneOf) return "union";
  if (schema.enum) return "choice";
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "string") return "text";
  if (schema.type === "object" && schema.properties) return "object";
  if (schema.type === "array") {
    const { sort } = fieldOf(schema.items ?? {}, root);
    if (sort === "union" || sort === "object") return "items";
    return ["number", "text", "choice"].includes(sort) ? "list" : "json";
  }
  return "json";
}

/** The classes of a union by name, and the field that holds the name. */
export function classesOf(schema, root) {
  const classes = new Map();
  let key = null;
  for (const each of schema.oneOf) {
    const body = resolved(each, root);
    const [name, field] = Object.entries(body.properties).find(([, value]) => value.const !== undefined);
    key = name;
    classes.set(field.const, body);
  }
  // The one that is taken where none is named does not require its name.
  const usual = [...classes].find(([, body]) => !(body.required ?? []).includes(key));
  return { key, classes, usual: usual?.[0] ?? [...classes.keys()][0] };
}

/** A field's help in one line; double backticks become code, which the caller draws. */
export function helpOf(schema, none = "null") {
  return (schema.description ?? "").replaceAll(/\s+/g, " ").replaceAll(/\bNone\b/g, none).trim();
}

/** What a plain field takes, in a few words. */
export function boundsOf(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const large = (value) => Math.abs(value) >= 1e9;
  if (low !== undefined && high !== undefined && !large(high) && !large(low)) return `${low} to ${high}`;
  if (low !== undefined && !large(low)) return schema.minimum === undefined ? `above ${low}` : `at least ${low}`;
  return "";
}

/** The value at a path; undefined where there is none. */
export function valueAt(spec, path) {
  return path.reduce((at, step) => (at === null || at === undefined ? undefined : at[step]), spec);
}

/** A copy of `spec` with `value` at `path`; undefined takes it out, and groups that are empty then. */
export function withValue(spec, path, value) {
  const [step, ...rest] = path;
  const copy = Array.isArray(spec) ? [...spec] : { ...(isGroup(spec) ? spec : {}) };
  const inner = rest.length ? withValue(copy[step] ?? {}, rest, value) : value;
  const gone = inner === undefined || (rest.length && isGroup(inner) && !Object.keys(inner).length);
  if (!gone || Array.isArray(copy)) copy[step] = inner ?? {};
  else delete copy[step];
  return copy;
}

const isGroup = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
