// Turns an answer into what the model thought before it and the answer itself.

import { h } from "./dom.js";
import { MarkdownView } from "./markdown.js";

const OPEN = "<think>";
const CLOSE = "</think>";

/** {thought, answer, isThinking}. Some templates open the thought in the prompt: then only its end is here. */
export function splitThought(text) {
  const end = text.indexOf(CLOSE);
  const begun = text.trimStart();
  if (end < 0) {
    if (begun.startsWith(OPEN)) return { thought: begun.slice(OPEN.length), answer: "", isThinking: true };
    // what may become the mark is not shown as an answer
    return { thought: "", answer: OPEN.startsWith(begun) ? "" : text, isThinking: false };
  }
  const thought = text.slice(0, end).trimStart();
  return {
    thought: thought.startsWith(OPEN) ? thought.slice(OPEN.length) : thought,
    answer: text.slice(end + CLOSE.length).trimStart(),
    isThinking: false,
  };
}

/** Draws both: the thought folded, the answer as Markdown. */
export class AnswerView {
  #name = h("span", null, "");
  #thought = h("div", { class: "markdown" });
  #fold = h("details", { class: "thought", hidden: true }, h("summary", null, this.#name), this.#thought);
  #answer = h("div", { class: "markdown" });
  #views = { thought: new MarkdownView(this.#thought), answer: new MarkdownView(this.#answer) };

  constructor() {
    this.elements = [this.#fold, this.#answer];
  }

  update(text) {
    const { thought, answer, isThinking } = splitThought(text);
    this.#fold.hidden = !thought.trim();
    this.#fold.classList.toggle("busy", isThinking);
    this.#name.textContent = isThinking ? "Thinking" : "Thought";
    this.#views.thought.update(thought);
    this.#views.answer.update(answer);
  }
}
