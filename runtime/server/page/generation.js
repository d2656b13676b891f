// Runs one answer: asks, gathers text and tokens as they come, and says how fast it went.

import { stream } from "./api.js";
import { mergeCalls } from "./calls.js";

const running = new Map(); // by conversation id
const MIN_SECONDS = 0.02; // tokens that came in one piece of the network have no speed

export const isRunning = (id) => running.has(id);

export function stopRun(id) {
  running.get(id)?.abort();
}

/**
 * Resolves to {text, tokens, calls, stats, error}; never rejects for what the server or the network did.
 * `onPiece(text, tokens, calls)` is called with all there is so far, at most once a frame.
 */
export async function run(id, path, body, onPiece) {
  const controller = new AbortController();
  running.set(id, controller);
  const result = { text: "", tokens: [], calls: [], stats: null, error: null };
  const began = performance.now();
  let first = 0;
  let last = began;
  let finish = "stopped";
  let usage = null;
  let frame = 0;
  const draw = () => { frame = 0; onPiece(result.text, result.tokens, result.calls); };
  try {
    for await (const piece of stream(path, body, controller.signal)) {
      if (piece.text || piece.tokens.length || piece.calls.length) {
        last = performance.now();
        first ||= last;
      }
      result.text += piece.text;
      result.tokens.push(...piece.tokens);
      mergeCalls(result.calls, piece.calls);
      finish = piece.finish ?? finish;
      usage = piece.usage ?? usage;
      frame ||= requestAnimationFrame(draw);
    }
    if (finish === "stopped") result.error = new Error("The answer broke off: the server closed the connection.");
  } catch (error) {
    if (error.name !== "AbortError") result.error = error;
  } finally {
    cancelAnimationFrame(frame);
    running.delete(id);
  }
  const tokens = usage?.completion_tokens ?? result.tokens.length;
  if (first) {
    const seconds = (last - first) / 1000;
    result.stats = { tokens, finish, ttftMs: first - began, rate: tokens > 1 && seconds > MIN_SECONDS ? (tokens - 1) / seconds : null };
  }
  return result;
}

const ENDINGS = { length: "cut at max tokens", stopped: "stopped", tool_calls: "calls a tool", content_filter: "filtered" };

export function describe(stats) {
  if (!stats) return "";
  const parts = [];
  if (stats.tokens) parts.push(`${stats.tokens} token${stats.tokens === 1 ? "" : "s"}`);
  if (stats.rate) parts.push(`${stats.rate < 10 ? stats.rate.toFixed(1) : Math.round(stats.rate)} tokens/s`);
  parts.push(`first after ${stats.ttftMs < 1000 ? `${Math.round(stats.ttftMs)} ms` : `${(stats.ttftMs / 1000).toFixed(1)} s`}`);
  if (ENDINGS[stats.finish]) parts.push(ENDINGS[stats.finish]);
  return parts.join(" · ");
}

/** Tells a screen reader whole sentences of a growing text, and not too often. */
export class Narrator {
  #told = 0;
  #at = 0;

  constructor(announce) {
    this.announce = announce;
  }

  update(text, done = false) {
    const rest = text.slice(this.#told);
    const ends = [...rest.matchAll(/[.!?:]\s|\n/g)];
    const end = done ? rest.length : ends.length ? ends.at(-1).index + 1 : 0;
    if (end === 0 || (!done && performance.now() - this.#at < 1500)) return;
    this.announce(rest.slice(0, end));
    this.#told += end;
    this.#at = performance.now();
  }
}
