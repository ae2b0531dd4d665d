// Text of tokens as it is shown: the same as service/pages/tokens.py (tests/pages/vectors.json).

export const LEVELS = 9;
export const LONGEST = 200;

const NAMED = {
  0xa0: "⍽", 0xad: "[SHY]", 0x200b: "[ZWSP]", 0xfeff: "[BOM]", 0x200e: "[LRM]", 0x200f: "[RLM]",
  0x61c: "[ALM]", 0x202a: "[LRE]", 0x202b: "[RLE]", 0x202c: "[PDF]", 0x202d: "[LRO]",
  0x202e: "[RLO]", 0x2066: "[LRI]", 0x2067: "[RLI]", 0x2068: "[FSI]", 0x2069: "[PDI]",
  0x2028: "[LS]", 0x2029: "[PS]", 0x7f: "␡", 0x0a: "↵", 0x09: "⇥",
};

/** `text` with controls, unseen spaces and marks of direction made visible. */
export function shown(text) {
  let visible = "";
  for (const letter of text) {
    const code = letter.codePointAt(0);
    if (NAMED[code] !== undefined) visible += NAMED[code];
    else if (code < 0x20) visible += String.fromCodePoint(0x2400 + code);
    else if (code >= 0x80 && code < 0xa0) visible += `U+00${code.toString(16).toUpperCase()}`;
    else if (code >= 0xd800 && code <= 0xdfff) visible += "\ufffd";
    else visible += letter;
  }
  return visible;
}

/** `shown`, at most LONGEST characters of it. */
export function clipped(text) {
  const letters = Array.from(shown(text));
  return letters.length <= LONGEST ? letters.join("") : `${letters.slice(0, LONGEST - 1).join("")}…`;
}

/** Shade of an activation, 0 to LEVELS. */
export function level(activation, maximum) {
  if (!(activation > 0) || !(maximum > 0)) return 0;
  return Math.min(LEVELS, Math.ceil((LEVELS * activation) / maximum - 1e-9));
}

/** "rtl" or "ltr", by the first letter that has a direction. */
export function direction(texts) {
  const strong = /(\p{Script=Hebrew}|\p{Script=Arabic}|\p{Script=Syriac}|\p{Script=Thaana}|\p{Script=Nko})|(\p{L})/u;
  for (const text of texts) {
    const match = strong.exec(text);
    if (match) return match[1] ? "rtl" : "ltr";
  }
  return "ltr";
}
