// Turns the pieces of tool calls into calls, and calls into what a reader sees: a name and its arguments.

import { fitHeight, h, icon } from "./dom.js";
import { splitThought } from "./thought.js";

const MAX_LINE = 60;

/** Add what a piece of the stream brings: a call's name once, its arguments bit by bit. */
export function mergeCalls(calls, deltas) {
  for (const { index, id, function: part } of deltas) {
    const call = (calls[index] ??= { id: "", name: "", arguments: "" });
    if (id) call.id = id;
    call.name += part?.name ?? "";
    call.arguments += part?.arguments ?? "";
  }
}

/** A message as the server wants it back: without what the model thought, with what it called. */
export function toHistory({ role, content, calls, call }) {
  if (role === "tool") return { role, content, tool_call_id: call.id };
  if (role !== "assistant") return { role, content };
  const answer = splitThought(content).answer;
  if (!calls?.length) return { role, content: answer };
  return { role, content: answer || null, tool_calls: calls.map(({ id, name, arguments: text }) =>
    ({ id, type: "function", function: { name, arguments: text } })) };
}

export const writeCall = (call) => `${call.name}(${call.arguments})`;

export const nameCalls = (calls) => `The model calls ${calls.map((call) => call.name).join(", ")}`;

/** The arguments by name, or null while the text isn't an object yet. */
function readArguments(text) {
  try {
    const value = JSON.parse(text || "{}");
    return value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value) : null;
  } catch {
    return null; // half of it is still to come, or the model broke off
  }
}

/** Draws calls as they come. While it is open, what the tools gave can be written below them. */
export class CallsView {
  #calls = [];
  #isOpen = false;
  #drawn = "";
  #onResults;
  element = h("div", { class: "calls", hidden: true });

  /** `onResults([{call, content}])` is called with a result for each call. */
  constructor(onResults) {
    this.#onResults = onResults;
  }

  update(calls) {
    this.#calls = calls;
    this.#draw();
  }

  setOpen(isOpen) {
    this.#isOpen = isOpen;
    this.#draw();
  }

  #draw() {
    const now = JSON.stringify([this.#calls, this.#isOpen]);
    if (now === this.#drawn) return; // what is being written below stays
    this.#drawn = now;
    this.element.hidden = this.#calls.length === 0;
    this.element.replaceChildren(...this.#calls.map(drawCall));
    if (this.#isOpen && this.#calls.length) this.element.append(this.#form());
  }

  #form() {
    const fields = this.#calls.map((call, index) => h("textarea", { rows: "1", class: "result", spellcheck: "false",
      "aria-label": `Result of call ${index + 1}, ${call.name}`, placeholder: `What ${call.name} gives`,
      oninput: (event) => fitHeight(event.target) }));
    const submit = (event) => {
      event.preventDefault();
      this.#onResults(this.#calls.map((call, index) => ({ call, content: fields[index].value })));
    };
    return h("form", { class: "results", onsubmit: submit }, fields,
      h("button", { class: "plain" }, fields.length > 1 ? "Send results" : "Send result"));
  }
}

function drawCall(call) {
  const values = readArguments(call.arguments);
  return h("figure", { class: "call", "aria-label": `Call of ${call.name}` },
    h("figcaption", { class: "call-head" }, icon("tool"), h("code", null, call.name)),
    values === null ? h("pre", { tabindex: "0" }, call.arguments)
      : values.length === 0 ? h("p", { class: "hint" }, "without arguments")
        : h("dl", null, values.map(([name, value]) => [h("dt", null, name), h("dd", null, writeValue(value))])));
}

/** Texts as they are, all else as JSON, on one line where that is short. */
function writeValue(value) {
  if (typeof value === "string") return value;
  const line = JSON.stringify(value);
  return line.length > MAX_LINE ? JSON.stringify(value, null, 2) : line;
}
