// A text that the model goes on with: the prompt can be edited, what the model wrote follows it.

import { $, announce, button, copyText, fitHeight, h } from "./dom.js";
import { describe, isRunning, Narrator, run, stopRun } from "./generation.js";
import { requestFields } from "./settings.js";
import { newId, save, tokensOf } from "./store.js";
import { legend, TokenView } from "./tokens.js";

const EXAMPLES = ["def fibonacci(n):\n", "class Stack:\n    def __init__(self):\n", "import json\n\ndef read_config(path):\n"];

export class CompleteView {
  #conversation = null;
  #model;
  #onChange;
  #prompt = h("textarea", { id: "prompt", rows: "1", spellcheck: "false", placeholder: "Begin a text, and let the model go on with it" });
  #output = h("div", { class: "output", role: "group", "aria-label": "The model's text" });
  #bar = h("div", { class: "document-bar" });
  #examples = h("div", { class: "examples" });
  #tokens = null;
  #showsTokens = false;

  constructor(model, onChange) {
    this.#model = model;
    this.#onChange = onChange;
    $("document").append(h("div", { class: "paper" }, h("label", { class: "hidden", for: "prompt" }, "Text to go on with"),
      this.#prompt, this.#output), this.#bar, this.#examples);
    this.#prompt.addEventListener("input", () => this.#changed());
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.complete();
      }
    });
    this.#examples.append(h("span", null, "Try "), ...EXAMPLES.map((text) => h("button", { type: "button", class: "example",
      onclick: () => this.#set(text) }, text.trim().split("\n").at(0))));
  }

  show(conversation) {
    this.#conversation = conversation;
    this.#prompt.value = conversation.prompt;
    this.#drawOutput();
    this.#drawBar();
    fitHeight(this.#prompt);
  }

  focus() {
    this.#prompt.focus();
  }

  stop() {
    stopRun(this.#conversation.id);
  }

  toggleTokens() {
    if (!this.#hasTokens()) return;
    this.#showsTokens = !this.#showsTokens;
    this.#drawOutput();
    this.#drawBar();
  }

  regenerate() {
    this.complete();
  }

  async complete() {
    const conversation = this.#conversation;
    if (!conversation.prompt || isRunning(conversation.id)) return;
    const output = { id: newId(), text: "", stats: null };
    conversation.output = output;
    const body = { model: this.#model(), prompt: conversation.prompt, ...requestFields("complete") };
    announce("The model is writing");
    const narrator = new Narrator(announce);
    const here = () => this.#conversation === conversation;
    const running = run(conversation.id, "v1/completions", body, (text, tokens) => {
      output.text = text;
      tokensOf.set(output.id, tokens);
      if (!here()) return;
      this.#updateOutput();
      narrator.update(text);
    });
    this.#drawOutput();
    this.#drawBar();
    const result = await running;
    Object.assign(output, { text: result.text, stats: result.stats, error: result.error?.message });
    tokensOf.set(output.id, result.tokens);
    save(conversation);
    if (!here()) return;
    this.#drawOutput();
    this.#drawBar();
    narrator.update(result.text, true);
    if (result.error) announce(result.error.message);
  }

  #hasTokens() {
    return Boolean(tokensOf.get(this.#conversation.output?.id)?.length);
  }

  #changed() {
    fitHeight(this.#prompt);
    this.#conversation.prompt = this.#prompt.value;
    save(this.#conversation);
    this.#onChange(this.#conversation);
    this.#drawBar();
  }

  #set(text) {
    this.#prompt.value = text;
    this.#changed();
    this.focus();
  }

  /** What the model wrote becomes part of the text. */
  #keep() {
    const { prompt, output } = this.#conversation;
    this.#conversation.output = null;
    this.#set(prompt + output.text);
    this.#drawOutput();
  }

  #drawOutput() {
    const { output, id } = this.#conversation;
    const busy = isRunning(id);
    this.#output.hidden = !output;
    this.#output.setAttribute("aria-busy", busy);
    this.#output.classList.toggle("busy", busy);
    this.#output.replaceChildren();
    this.#tokens = null;
    if (!output) return;
    if (this.#showsTokens && (busy || this.#hasTokens())) {
      this.#tokens = new TokenView();
      this.#output.append(legend(), this.#tokens.element);
    } else {
      this.#output.append(h("pre", { class: "written" }, ""));
    }
    if (output.error) this.#output.append(h("p", { class: "error", role: "alert" }, output.error));
    this.#updateOutput();
  }

  #updateOutput() {
    const { output } = this.#conversation;
    if (this.#tokens) this.#tokens.update(tokensOf.get(output.id) ?? []);
    else this.#output.querySelector(".written").textContent = output.text;
  }

  #drawBar() {
    const { prompt, output, id } = this.#conversation;
    const busy = isRunning(id);
    const focused = this.#bar.contains(document.activeElement);
    const main = busy
      ? h("button", { type: "button", class: "primary", onclick: () => this.stop() }, "Stop")
      : h("button", { type: "button", class: "primary", id: "complete", disabled: !prompt, onclick: () => this.complete(),
        title: "Ctrl+Enter" }, output ? "Write again" : "Complete");
    const done = output && !busy;
    this.#bar.replaceChildren(main,
      ...[done && output.text ? button("join", "Keep", () => this.#keep(), { words: true }) : null,
        done && output.text ? button("copy", "Copy", () => copyText(prompt + output.text)) : null,
        done && this.#hasTokens() ? button("tokens", this.#showsTokens ? "Show as text" : "Show token probabilities",
          () => this.toggleTokens(), { "aria-pressed": this.#showsTokens }) : null].filter(Boolean),
      h("span", { class: "stats" }, busy ? "" : describe(output?.stats)));
    if (focused) main.focus();
    this.#examples.hidden = Boolean(prompt);
  }
}
