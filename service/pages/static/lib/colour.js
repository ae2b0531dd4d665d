// Variables of base.css as numbers.

/** [red, green, blue] of a variable of base.css, in the theme that is shown. */
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const ink = document.createElement("canvas").getContext("2d");
  ink.fillStyle = getComputedStyle(probe).color;
  probe.remove();
  ink.fillRect(0, 0, 1, 1);
  return [...ink.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
