// A run's end, heard of by its events; the connection is closed while nobody looks.
import { address } from "./http.js";

const ENDED = ["succeeded", "failed", "cancelled"];

/**
 * Calls `onChange({state, progress, ended, error})` as the run goes on.
 * @returns {() => void} stops it
 */
export function follow(run, onChange) {
  let source = null;
  let over = false;

  function stop() {
    over = true;
    close();
    document.removeEventListener("visibilitychange", look);
  }
  function close() {
    source?.close();
    source = null;
  }
  function open() {
    if (over || source !== null) return;
    source = new EventSource(address(`/api/v1/runs/${encodeURIComponent(run)}/events`));
    source.addEventListener("state", (event) => {
      const message = JSON.parse(event.data);
      if (message.run_id !== run) return;
      const ended = ENDED.includes(message.data.state);
      if (ended) stop();
      onChange({ state: message.data.state, error: message.data.error ?? null, ended });
    });
    source.addEventListener("progress", (event) => {
      const { data } = JSON.parse(event.data);
      onChange({ state: "running", progress: data, ended: false });
    });
  }
  function look() {
    if (document.visibilityState === "hidden") close();
    else open();
  }

  document.addEventListener("visibilitychange", look);
  look();
  return stop;
}
