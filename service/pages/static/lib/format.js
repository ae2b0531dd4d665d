// Figures as pages show them: the same as monosemy/figures.py (tests/pages/vectors.json).

export const MISSING = "–";
const MINUS = "\u2212";
const THIN = "\u2009";
const LARGEST = 1e15; // from here on figures are written with an exponent

const missing = (value) => value === null || value === undefined || !Number.isFinite(value);

/** Whole numbers in full (integer = true), others with so many significant digits. */
export function number(value, digits = 3, integer = false) {
  if (missing(value)) return MISSING;
  if (!integer && Math.abs(value) >= LARGEST) return exponential(value, digits);
  if (integer || value === 0 || Math.abs(value) >= 1000) return signOf(grouped(value, 0));
  const shown = Number(Math.abs(value).toPrecision(digits));
  if (shown >= 1000) return signOf(grouped(Math.sign(value) * shown, 0));
  const text = value.toPrecision(digits);
  const exponent = Math.floor(Math.log10(shown) + 1e-12);
  if (exponent < -4) return exponential(value, digits);
  return signOf(trimmed(text));
}

/** A count, in full. */
export const count = (value) => number(value, 3, true);

export function fixed(value, places = 2) {
  if (missing(value)) return MISSING;
  if (Math.abs(value) >= LARGEST) return exponential(value, 3);
  return signOf(grouped(value, places));
}

export function signed(value, places = 2) {
  const shown = fixed(value, places);
  return shown === MISSING || shown.startsWith(MINUS) ? shown : `+${shown}`;
}

export function percent(share, digits = 2) {
  if (missing(share)) return MISSING;
  return `${number(share * 100, share < 0.0995 ? digits : 3)}${THIN}%`;
}

export function density(share) {
  if (missing(share)) return MISSING;
  if (share === 0) return "never";
  if (share >= 0.001) return percent(share);
  const rarity = 1 / share;
  return `1 in ${Math.abs(rarity) < LARGEST ? count(Math.round(rarity)) : number(rarity)}`;
}

export function interval(low, high, places = 2) {
  if (missing(low) || missing(high)) return "";
  return `(${fixed(low, places)}${low < 0 ? " to " : "–"}${fixed(high, places)})`;
}

export function duration(seconds) {
  if (missing(seconds) || Math.abs(seconds) >= LARGEST) return MISSING;
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes, left] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (part) => String(part).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(left)}` : `${minutes}:${two(left)}`;
}

export function size(bytes) {
  if (missing(bytes)) return MISSING;
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" ? count(Math.trunc(value)) : number(value)} ${unit}`;
    value /= 1000;
  }
  return `${number(value)} TB`;
}

export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : (many ?? `${one}s`)}`;
}

function exponential(value, digits) {
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  return signOf(`${trimmed(mantissa)}e${Number(power)}`);
}

function grouped(value, places) {
  const [whole, rest] = value.toFixed(places).split(".");
  const commas = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return rest === undefined ? commas : `${commas}.${rest}`;
}

function signOf(text) {
  if (!text.startsWith("-")) return text;
  return /[1-9]/.test(text) ? MINUS + text.slice(1) : text.slice(1);
}

function trimmed(text) {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}
