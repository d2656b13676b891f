// Turns the settings form into the fields of a request. One row of FIELDS is one setting.

import { $, fitHeight, h } from "./dom.js";

const KEY = "ingot.settings";

const FIELDS = [
  { name: "temperature", label: "Temperature", value: 0.7, min: 0, max: 2, step: 0.05, slider: true,
    hint: "0 always takes the likeliest token" },
  { name: "top_p", label: "Top p", value: 1, min: 0.01, max: 1, step: 0.01, slider: true,
    hint: "Only the likeliest tokens that add up to p" },
  { name: "min_p", label: "Min p", value: 0, min: 0, max: 1, step: 0.01, slider: true,
    hint: "Only tokens at least p times as likely as the likeliest" },
  { name: "repetition_penalty", label: "Repetition penalty", value: 1, min: 0.5, max: 2, step: 0.05, slider: true,
    hint: "Above 1, tokens seen before become less likely" },
  { name: "top_k", label: "Top k", value: 0, min: 0, max: 1000, step: 1, hint: "Only the k likeliest tokens; 0 for all" },
  { name: "max_tokens", label: "Max tokens", value: 256, min: 1, max: 1000000, step: 1, hint: "The answer is no longer than this" },
  { name: "seed", label: "Seed", value: null, min: 0, max: Number.MAX_SAFE_INTEGER, step: 1,
    hint: "The same seed gives the same answer; empty for another each time" },
];
const DEFAULTS = { ...Object.fromEntries(FIELDS.map((field) => [field.name, field.value])), stop: "", tools: "", probabilities: true };

let values = { ...DEFAULTS };

/** `onSystem(text)` is called when the system prompt changes. */
export function startSettings(onSystem) {
  values = { ...DEFAULTS, ...read() };
  draw(onSystem);
}

export function showSystemPrompt(text, visible) {
  const field = $("system");
  field.closest(".field").hidden = !visible;
  field.value = text;
  fitHeight(field);
}

/** What a request carries; `chat` names log probabilities otherwise than completions do. */
export function requestFields(kind) {
  const { stop, tools, probabilities, ...numbers } = values;
  const fields = Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== null));
  const stops = stop.split("\n").filter((line) => line).map((line) => line.replace(/\\n/g, "\n"));
  if (stops.length) fields.stop = stops;
  const given = readTools(tools);
  if (kind === "chat" && given?.length) fields.tools = given;
  if (probabilities) Object.assign(fields, kind === "chat" ? { logprobs: true, top_logprobs: 5 } : { logprobs: 5 });
  return fields;
}

/** The list of tools; a function's schema alone will do for one. Null for what is no such list. */
function readTools(text) {
  if (!text.trim()) return [];
  try {
    const list = [JSON.parse(text)].flat();
    const isTool = (tool) => tool !== null && typeof tool === "object";
    return list.every(isTool) ? list.map((tool) => tool.type ? tool : { type: "function", function: tool }) : null;
  } catch {
    return null;
  }
}

function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Object.fromEntries(Object.entries(stored).filter(([name, value]) =>
      name in DEFAULTS && (typeof value === typeof DEFAULTS[name] || name === "seed")));
  } catch {
    return {}; // not ours, or cut: as if there were none
  }
}

function set(name, value) {
  values[name] = value;
  localStorage.setItem(KEY, JSON.stringify(values));
}

function draw(onSystem) {
  const system = h("textarea", { id: "system", rows: "3", placeholder: "None",
    oninput: (event) => { fitHeight(event.target); onSystem(event.target.value); } });
  const stop = h("textarea", { id: "stop-strings", rows: "2", spellcheck: "false", "aria-describedby": "stop-hint",
    oninput: (event) => set("stop", event.target.value) });
  stop.value = values.stop;
  const tools = h("textarea", { id: "tools", rows: "2", spellcheck: "false", "aria-describedby": "tools-hint",
    placeholder: '[{"name": …, "parameters": …}]' });
  const hint = h("p", { class: "hint", id: "tools-hint" });
  const checkTools = () => {
    const isWrong = readTools(tools.value) === null;
    tools.setAttribute("aria-invalid", isWrong);
    hint.textContent = isWrong ? "This is not a JSON list of functions, so it isn't sent" : "A JSON list of functions that the model may call";
  };
  tools.addEventListener("input", () => { set("tools", tools.value); checkTools(); });
  tools.value = values.tools;
  checkTools();
  const probabilities = h("input", { type: "checkbox", id: "probabilities", checked: values.probabilities,
    onchange: (event) => set("probabilities", event.target.checked) });
  const reset = () => {
    values = { ...DEFAULTS };
    localStorage.removeItem(KEY);
    const text = system.value;
    const { hidden } = system.closest(".field");
    draw(onSystem);
    showSystemPrompt(text, !hidden);
    $("reset-settings").focus();
  };
  $("settings-form").replaceChildren(
    h("div", { class: "field" }, h("label", { for: "system" }, "System prompt"), system),
    ...FIELDS.map(drawNumber),
    h("div", { class: "field" }, h("label", { for: "stop-strings" }, "Stop"), stop,
      h("p", { class: "hint", id: "stop-hint" }, "One string a line ends the answer; \\n is a new line")),
    h("div", { class: "field" }, h("label", { for: "tools" }, "Tools"), tools, hint),
    h("label", { class: "check" }, probabilities, h("span", null, "Ask for token probabilities")),
    h("button", { type: "button", class: "plain", id: "reset-settings", onclick: reset }, "Reset"));
}

function drawNumber({ name, label, min, max, step, slider, hint }) {
  const id = `set-${name}`;
  const field = h("input", { id, type: "number", min, max, step: step < 1 ? "any" : step, inputmode: "decimal", "aria-describedby": `${id}-hint`,
    placeholder: name === "seed" ? "random" : null });
  // for the pointer: the number beside it is what the keyboard and a screen reader use
  const range = slider ? h("input", { type: "range", min, max, step, tabindex: "-1", "aria-hidden": "true" }) : null;
  const show = () => {
    field.value = values[name] ?? "";
    if (range) range.value = values[name];
  };
  field.addEventListener("input", () => {
    if (field.value === "" && name === "seed") set(name, null);
    else if (field.value !== "" && field.checkValidity()) set(name, Number(field.value));
    if (range) range.value = values[name];
  });
  field.addEventListener("blur", show); // what can't be used doesn't stay in the field
  range?.addEventListener("input", () => { set(name, Number(range.value)); show(); });
  show();
  return h("div", { class: "field" },
    h("div", { class: "row" }, h("label", { for: id }, label), field), range,
    h("p", { class: "hint", id: `${id}-hint` }, hint));
}
