// The events of a run while the page is seen: one EventSource, none while it is hidden.

const SETTLED_MS = 5000;
const WAITS_MS = [500, 1000, 2000, 5000];

/**
 * Hands every event to `onEvent` once, whatever is cut and taken up again.
 *
 * An event may be stored after one with a higher id. So the stream is taken up from the newest event
 * that has been here for a while, not from the last one, and what was here already is left out.
 *
 * @param {string} path address of the stream, with the prefix of a proxy
 * @param {{after: number, seen: number[], onEvent: (event: object) => void,
 *   onChange: (state: "live"|"lost"|"hidden") => void, hasEnded: () => Promise<boolean>}} options
 * @returns {() => void} stops it
 */
export function listen(path, { after, seen, onEvent, onChange, hasEnded }) {
  let floor = after;
  const given = new Map(seen.map((id) => [id, Date.now()]));
  let source = null;
  let failures = 0;
  let timer = null;
  let over = false;

  const settle = () => {
    const now = Date.now();
    for (const [id, when] of given) if (now - when > SETTLED_MS && id > floor) floor = id;
    for (const id of given.keys()) if (id <= floor) given.delete(id);
  };

  const take = (message) => {
    const event = JSON.parse(message.data);
    if (event.id <= floor || given.has(event.id)) return;
    given.set(event.id, Date.now());
    onEvent(event);
  };

  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };

  const open = () => {
    if (over || source !== null || document.hidden) return;
    settle();
    source = new EventSource(`${path}?after=${floor}`);
    source.onopen = () => {
      failures = 0;
      onChange("live");
    };
    for (const type of ["state", "progress", "stage", "log"]) source.addEventListener(type, take);
    source.onerror = () => {
      close();
      const wait = WAITS_MS[Math.min(failures, WAITS_MS.length - 1)];
      if (failures > 0) onChange("lost");
      failures += 1;
      // The stream also ends when the run has: whoever listens says whether it has.
      timer = setTimeout(async () => {
        if (await hasEnded()) over = true;
        else open();
      }, wait);
    };
  };

  const look = () => {
    if (over) return;
    if (document.hidden) {
      close();
      onChange("hidden");
    } else open();
  };

  document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
  return () => {
    over = true;
    close();
    document.removeEventListener("visibilitychange", look);
    removeEventListener("pagehide", close);
    removeEventListener("pageshow", open);
  };
}
