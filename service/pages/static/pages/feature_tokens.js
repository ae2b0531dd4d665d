// What is known of the token under the pointer, or the one that the arrows have come to.

export function installTokens() {
  const examples = document.querySelector("#examples");
  const panel = document.querySelector("#token");
  if (examples === null || panel === null) return;
  const marks = () => [...examples.querySelectorAll("mark")];

  function show(mark) {
    panel.hidden = false;
    panel.replaceChildren(Object.assign(document.createElement("b"), { textContent: mark.textContent }), ` ${mark.title}`);
  }
  function move(from, step) {
    const all = marks();
    const next = all[all.indexOf(from) + step];
    if (next === undefined) return;
    from.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  const first = examples.querySelector("mark");
  if (first !== null) first.tabIndex = 0;
  examples.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("mark");
    if (mark !== null) show(mark);
  });
  examples.addEventListener("focusin", (event) => {
    if (event.target.matches("mark")) show(event.target);
  });
  examples.addEventListener("keydown", (event) => {
    if (!event.target.matches("mark")) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(event.target, step);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") panel.hidden = true;
  });
}
