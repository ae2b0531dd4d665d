// What every page has: keys, theme, local times, questions before what cannot be undone.
import { saved, save } from "./state.js";
import { installKeys } from "./keys.js";

const root = document.documentElement;

function theme() {
  const button = document.querySelector("[data-theme-switch]");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const say = () => {
    button.textContent = isDark() ? "Light" : "Dark";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    // A cookie, so that the server can draw the next page in it at once.
    const path = root.dataset.root || "/";
    document.cookie = `monosemy_theme=${root.dataset.theme}; path=${path}; max-age=31536000; samesite=lax`;
    say();
  });
  system.addEventListener("change", say);
  say();
}

/** Times as they are where the page is read; UTC stays in the title. `data-clock`: without the day. */
export function localTimes(within = document) {
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  for (const element of within.querySelectorAll("time[datetime]")) {
    const time = new Date(element.dateTime);
    const format = element.dataset.clock === undefined ? day : clock;
    if (!Number.isNaN(time.valueOf())) element.textContent = format.format(time);
  }
}

function confirmations() {
  document.addEventListener("submit", (event) => {
    const words = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (words && !window.confirm(words)) event.preventDefault();
  });
}

/** An open menu closes by Escape and by a click beside it. */
function menus() {
  const open = () => document.querySelector("header.site nav details[open]");
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" ? open() : null;
    if (menu === null) return;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  });
  document.addEventListener("click", (event) => {
    const menu = open();
    if (menu && !menu.contains(event.target)) menu.open = false;
  });
}

theme();
menus();
localTimes();
confirmations();
installKeys({ isOff: () => saved("keys-off") === true, setOff: (off) => save("keys-off", off) });
