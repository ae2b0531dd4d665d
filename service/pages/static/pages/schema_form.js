// A form out of the JSON schema of a spec.  The spec is the truth: a control shows and sets the value
// at its path, so that what a form does not know stays.
import { make } from "../lib/state.js";
import { boundsOf, classesOf, fieldOf, helpOf, valueAt, withValue } from "./schema.js";

/** Fields that most runs set, wherever they are; the required ones are shown first in any case. */
const COMMON = new Set([
  "name", "model", "site", "sites", "sae", "saes", "other", "source", "set", "prompt", "prompts", "text", "training", "explanation", "scoring",
  "architecture", "d_sae", "k", "target_l0", "tokens", "learning_rate", "features", "count", "indices", "by",
  "scorer", "explainer", "examples", "positives", "negatives", "evaluation",
]);

/**
 * @param {object} root JSON schema of a kind
 * @param {{get: () => object, set: (spec: object) => void, redraw: () => void}} state
 * @returns {Node} the fields
 */
export function drawForm(root, state) {
  return new Form(root, state).object(root, [], "");
}

class Form {
  constructor(root, state) {
    this.root = root;
    this.state = state;
  }

  value(path) {
    return valueAt(this.state.get(), path);
  }

  set(path, value, redraw = false) {
    this.state.set(withValue(this.state.get(), path, value));
    if (redraw) this.state.redraw(path);
  }

  /** The fields of an object: the common ones and those that are set; the rest is folded. */
  object(schema, path, legend) {
    const box = make("div", { class: "group" });
    const rest = [];
    for (const [name, given] of Object.entries(schema.properties)) {
      const field = fieldOf(given, this.root);
      if (field.sort === "const") continue;
      const needed = (schema.required ?? []).includes(name);
      const row = this.field(name, field, [...path, name], needed);
      const common = COMMON.has(name) && !field.schema.deprecated;
      if (needed || common || this.value([...path, name]) !== undefined) box.append(row);
      else rest.push(row);
    }
    if (!box.children.length && rest.length <= 3) box.append(...rest.splice(0));
    if (rest.length) {
      const where = legend ? ` of ${legend}` : "";
      box.append(make("details", {}, make("summary", {}, `${rest.length} more ${rest.length === 1 ? "field" : "fields"}${where}`), ...rest));
    }
    return box;
  }

  field(name, field, path, needed) {
    if (field.sort === "object" || field.sort === "union") return this.group(name, field, path, needed);
    if (field.sort === "items") return this.items(name, field, path);
    return this.plain(name, field, path, needed);
  }

  /** A part in a frame of its own; of a union the class is chosen first. */
  group(name, { sort, schema, nullable }, path, needed) {
    const value = this.value(path);
    const frame = make("fieldset", { "data-path": path.join(".") }, make("legend", {}, name));
    frame.append(...this.about(schema, path));
    const without = value === null || (value === undefined && nullable && schema.default === null);
    if (nullable) frame.append(this.leftOut(path, schema, without));
    if (without && value === null) return frame;
    if (sort === "object") {
      frame.append(this.object(schema, path, name));
      return frame;
    }
    const { key, classes, usual } = classesOf(schema, this.root);
    const named = value?.[key] ?? schema.default?.[key] ?? usual;
    const chosen = classes.has(named) ? named : usual;
    const select = make(
      "select",
      { id: idOf([...path, key]), "aria-describedby": `${idOf([...path, key])}-help`, onchange: () => this.set(path, { [key]: select.value }, true) },
      ...[...classes.keys()].map((each) => make("option", { selected: each === chosen }, each)),
    );
    const help = helpOf(classes.get(chosen));
    frame.append(row([...path, key], key, select, help, needed), this.object(classes.get(chosen), path, `${key} ${chosen}`));
    return frame;
  }

  leftOut(path, schema, without) {
    const isDefault = schema.default === null;
    const tick = make("input", {
      type: "checkbox",
      checked: without,
      onchange: () => this.set(path, tick.checked ? (isDefault ? undefined : null) : isDefault ? {} : undefined, true),
    });
    return make("label", { class: "none" }, tick, " left out");
  }

  /** Several parts of one sort. */
  items(name, { schema, nullable }, path) {
    const value = this.value(path);
    const frame = make("fieldset", { "data-path": path.join(".") }, make("legend", {}, name), ...this.about(schema, path));
    if (nullable) frame.append(this.leftOut(path, schema, value === null));
    if (value === null) return frame;
    const given = Array.isArray(value) ? value : value === undefined ? [] : [value];
    const field = fieldOf(schema.items, this.root);
    given.forEach((_, place) => {
      const at = Array.isArray(value) ? [...path, place] : path;
      const part = this.group(`${name} ${place + 1}`, { ...field, nullable: false }, at, false);
      const out = make("button", { type: "button", onclick: () => this.set(path, kept(given, place), true) }, "Remove");
      part.querySelector("legend").after(out);
      frame.append(part);
    });
    if (!given.length) frame.append(make("p", { class: "help" }, `Default: ${inWords(schema.default) || "one, with its defaults"}.`));
    const add = () => this.set(path, [...given, {}], true);
    frame.append(make("button", { type: "button", onclick: add }, `Add to ${name}`));
    return frame;
  }

  /** One value, or a list of plain ones. */
  plain(name, field, path, needed) {
    const { sort, schema, nullable } = field;
    const value = this.value(path);
    const control = this.control(field, path, value);
    const hints = [boundsOf(sort === "list" ? fieldOf(schema.items, this.root).schema : schema)];
    if (sort === "list") hints.push(isNumbers(schema, this.root) ? "separated by commas" : "one on each line");
    if (sort === "json") hints.push("as JSON");
    const help = [helpOf(schema, schema.default ?? null ? "none" : "empty"), ...hints.filter(Boolean).map((each) => `(${each})`)].join(" ");
    const line = row(path, name, control, help, needed);
    if (nullable && schema.default !== null && schema.default !== undefined) {
      const tick = make("input", { type: "checkbox", checked: value === null, onchange: () => this.set(path, tick.checked ? null : undefined, true) });
      line.querySelector(".control").append(make("label", { class: "none" }, tick, " none"));
      control.disabled = value === null;
    }
    return line;
  }

  control({ sort, schema }, path, value) {
    const id = idOf(path);
    const shared = { id, "aria-describedby": `${id}-help` };
    const shown = value === undefined || value === null ? "" : value;
    if (sort === "choice" || sort === "boolean") {
      const choices = sort === "boolean" ? [true, false] : schema.enum;
      const usual = schema.default === undefined || schema.default === null ? "left out" : `default (${inWords(schema.default)})`;
      const select = make(
        "select",
        { ...shared, onchange: () => this.set(path, select.selectedIndex ? choices[select.selectedIndex - 1] : undefined) },
        make("option", { value: "" }, usual),
        ...choices.map((each) => make("option", { selected: each === value }, inWords(each))),
      );
      return select;
    }
    const placeholder = inWords(schema.default) && `default: ${inWords(schema.default)}`;
    if (sort === "list" && !isNumbers(schema, this.root)) {
      const area = make("textarea", { ...shared, rows: 2, placeholder: schema.default?.length ? `default: ${schema.default.join("\n")}` : "", oninput: () => this.set(path, linesOf(area.value)) });
      area.value = Array.isArray(shown) ? shown.join("\n") : String(shown);
      return area;
    }
    const read = { list: numbersOf, number: numberOf, json: jsonOf }[sort] ?? ((text) => (text === "" ? undefined : text));
    const field = make("input", {
      ...shared,
      type: "text",
      placeholder,
      spellcheck: "false",
      autocomplete: "off",
      inputmode: sort === "number" ? "decimal" : null,
      oninput: () => this.set(path, read(field.value.trim())),
    });
    field.value = Array.isArray(shown) ? shown.map(inWords).join(", ") : typeof shown === "object" ? JSON.stringify(shown) : String(shown);
    return field;
  }

  about(schema, path) {
    const help = helpOf(schema, "“left out”");
    return help ? [helpText(help, `${idOf(path)}-help`)] : [];
  }
}

const kept = (given, place) => {
  const rest = given.filter((_, at) => at !== place);
  return rest.length ? rest : undefined;
};

const isNumbers = (schema, root) => fieldOf(schema.items, root).sort === "number";

const idOf = (path) => `f-${path.join("-")}`;

function row(path, name, control, help, needed) {
  const label = make("label", { for: control.id }, name, needed ? make("span", { class: "required" }, " required") : null);
  return make("div", { class: "row", "data-path": path.join(".") }, label, make("div", { class: "control" }, control, helpText(help, `${control.id}-help`)));
}

function helpText(text, id) {
  const parts = text.split(/``?/).map((part, place) => (place % 2 ? make("code", {}, part) : part));
  return make("p", { class: "help", id }, ...parts);
}

/** A default in a few words. */
function inWords(value) {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return String(value.architecture ?? value.scorer ?? value.explainer ?? "as usual");
  return String(value);
}

/** What is no number is sent as it is, so that the service says what is wrong with it. */
function numberOf(text) {
  if (text === "") return undefined;
  const value = Number(text.replaceAll(/[,_ ]/g, ""));
  return Number.isFinite(value) ? value : text;
}

function numbersOf(text) {
  const parts = text.split(/[,\s]+/).filter(Boolean);
  return parts.length ? parts.map(numberOf) : undefined;
}

function linesOf(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.length ? lines : undefined;
}

function jsonOf(text) {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
