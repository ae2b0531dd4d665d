// How a run goes on and ends, for pages that wait for it.
import * as api from "./api.js";
import { listen } from "./events.js";
import { address } from "./http.js";

const ENDED = ["succeeded", "failed", "cancelled"];

/**
 * Calls `onChange({state, progress, ended, error})` as the run goes on.
 * @returns {() => void} stops it
 */
export function follow(run, onChange) {
  const take = ({ run_id, type, data }) => {
    if (type === "progress") onChange({ state: "running", progress: data, ended: false });
    if (type !== "state" || run_id !== run) return;
    const ended = ENDED.includes(data.state);
    if (ended) stop();
    onChange({ state: data.state, error: data.error ?? null, ended });
  };
  const stop = listen(address(`/api/v1/runs/${encodeURIComponent(run)}/events`), {
    after: 0,
    seen: [],
    onEvent: take,
    onChange: () => {},
    hasEnded: async () => {
      const told = await api.runsShowRun(run).catch(() => null);
      return told !== null && ENDED.includes(told.state);
    },
  });
  return stop;
}
