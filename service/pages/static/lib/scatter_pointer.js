// The pointer over a plot: hovering, choosing a point, moving what is seen, closing an area.

/** `margin`: where the plot lies in its box. */
export function followPointer(plot, margin) {
  const { above, tell } = plot;
  const at = (event) => {
    const box = above.getBoundingClientRect();
    return [event.clientX - box.left - margin.left, event.clientY - box.top - margin.top];
  };
  let down = null;
  above.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !plot.n) return;
    above.setPointerCapture(event.pointerId);
    down = { at: at(event), last: at(event), moved: false };
    if (plot.choosing) plot.lasso = [at(event)];
  });
  above.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (down === null) {
      tell.hovered(plot.n ? plot.nearest(x, y) : null);
      return;
    }
    down.moved ||= Math.hypot(x - down.at[0], y - down.at[1]) > 3;
    if (plot.choosing) {
      plot.lasso.push([x, y]);
      plot.over();
    } else if (down.moved) {
      plot.pan((down.last[0] - x) / plot.width, (y - down.last[1]) / plot.height);
    }
    down.last = [x, y];
  });
  above.addEventListener("pointerup", (event) => {
    if (down === null) return;
    const { moved } = down;
    const outline = plot.lasso;
    [down, plot.lasso] = [null, null];
    if (!moved) tell.chosen(plot.nearest(...at(event)));
    else if (outline !== null) plot.enclose(outline);
    plot.over();
  });
  above.addEventListener("pointercancel", () => {
    [down, plot.lasso] = [null, null];
  });
  above.addEventListener("pointerleave", () => down === null && tell.hovered(null));
  const wheel = (event) => {
    // The page scrolls on, unless the plot is what is worked with.
    if (!plot.n || (!event.ctrlKey && document.activeElement !== plot.box)) return;
    event.preventDefault();
    plot.zoom(1.0015 ** -event.deltaY, ...at(event));
  };
  above.addEventListener("wheel", wheel, { passive: false });
}
