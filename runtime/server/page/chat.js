// The conversation: its messages, and the answer that is being written.

import { nameCalls, toHistory } from "./calls.js";
import { $, announce, fitHeight, h } from "./dom.js";
import { isRunning, Narrator, run, stopRun } from "./generation.js";
import { Message } from "./message.js";
import { requestFields } from "./settings.js";
import { newMessage, save, tokensOf } from "./store.js";
import { splitThought } from "./thought.js";

export class ChatView {
  #conversation = null;
  #drawn = new Map(); // message id -> Message
  #model;
  #onChange;

  /** `model()` names the model; `onChange(conversation)` is called when its title may be another. */
  constructor(model, onChange) {
    this.#model = model;
    this.#onChange = onChange;
    const field = $("message");
    $("composer").addEventListener("submit", (event) => { event.preventDefault(); this.#submit(); });
    $("stop").addEventListener("click", () => this.stop());
    field.addEventListener("input", () => fitHeight(field));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#submit();
      }
    });
  }

  show(conversation) {
    this.#conversation = conversation;
    this.#drawn.clear();
    $("messages").replaceChildren();
    if (conversation.messages.length === 0) this.#welcome();
    for (const message of conversation.messages) this.#add(message);
    this.#showState();
    this.#scrollToEnd();
  }

  focus() {
    $("message").focus();
  }

  stop() {
    stopRun(this.#conversation.id);
  }

  toggleTokens() {
    const last = [...this.#drawn.values()].reverse().find((drawn) => drawn.canShowTokens);
    last?.toggleTokens();
  }

  regenerate() {
    const { messages, id } = this.#conversation;
    if (isRunning(id) || messages.length === 0) return;
    if (messages.at(-1).role === "assistant") this.#removeFrom(messages.length - 1);
    this.#answer();
  }

  #welcome() {
    $("messages").append(h("div", { class: "welcome" },
      h("h2", null, "What is on your mind?"),
      h("p", null, "Conversations stay in this browser. Enter sends, Shift+Enter makes a new line.")));
  }

  #submit() {
    const field = $("message");
    const text = field.value.trim();
    if (!text || isRunning(this.#conversation.id)) return;
    field.value = "";
    fitHeight(field);
    this.#push(newMessage("user", text));
    this.#answer();
  }

  /** What the tools gave that the last answer calls: [{call, content}]. */
  #give(results) {
    if (isRunning(this.#conversation.id)) return;
    for (const { call, content } of results) this.#push({ ...newMessage("tool", content), call: { id: call.id, name: call.name } });
    this.#showState();
    this.#answer();
    this.focus();
  }

  #push(message) {
    if (this.#conversation.messages.length === 0) $("messages").replaceChildren();
    this.#conversation.messages.push(message);
    this.#add(message);
    save(this.#conversation);
    this.#onChange(this.#conversation);
  }

  #add(message) {
    const drawn = new Message(message, {
      edit: (text) => this.#edit(message, text),
      again: () => this.regenerate(),
      results: (results) => this.#give(results),
    });
    this.#drawn.set(message.id, drawn);
    $("messages").append(drawn.element);
    return drawn;
  }

  #removeFrom(index) {
    for (const message of this.#conversation.messages.splice(index)) {
      this.#drawn.get(message.id)?.element.remove();
      this.#drawn.delete(message.id);
      tokensOf.delete(message.id);
    }
  }

  /** Another question gets another answer; another answer just stands there. */
  #edit(message, text) {
    const { messages, id } = this.#conversation;
    if (isRunning(id)) return;
    message.content = text;
    if (message.role !== "assistant") {
      this.#removeFrom(messages.indexOf(message) + 1);
      this.#answer();
    } else {
      tokensOf.delete(message.id);
      message.stats = null;
    }
    save(this.#conversation);
    this.#onChange(this.#conversation);
  }

  async #answer() {
    const conversation = this.#conversation;
    // an answer that failed before its first word is no part of the conversation, nor is what the model thought
    const messages = conversation.messages.map(toHistory).filter((asked) => asked.content || asked.role === "tool" || asked.tool_calls);
    if (conversation.system.trim()) messages.unshift({ role: "system", content: conversation.system });
    const body = { model: this.#model(), messages, ...requestFields("chat") };
    const message = newMessage("assistant", "");
    this.#push(message);
    this.#scrollToEnd();
    announce("The model is answering");
    const narrator = new Narrator(announce);
    // the conversation on the screen may be another by now
    const drawn = () => this.#drawn.get(message.id);
    const answering = run(conversation.id, "v1/chat/completions", body, (text, tokens, calls) => {
      Object.assign(message, { content: text, calls });
      tokensOf.set(message.id, tokens);
      this.#keepingEnd(() => drawn()?.update());
      if (drawn()) narrator.update(splitThought(text).answer);
    });
    this.#showState();
    const result = await answering;
    Object.assign(message, { content: result.text, calls: result.calls, stats: result.stats });
    tokensOf.set(message.id, result.tokens);
    if (result.error) message.error = result.error.message;
    if (!result.text && !result.error && !result.stats) conversation.messages = conversation.messages.filter((other) => other !== message);
    save(conversation);
    if (this.#conversation !== conversation) return;
    if (!conversation.messages.includes(message)) {
      drawn()?.element.remove();
      this.#drawn.delete(message.id);
    }
    this.#showState();
    this.#keepingEnd(() => drawn()?.update());
    narrator.update(splitThought(result.text).answer, true);
    if (result.calls.length) announce(nameCalls(result.calls));
    if (result.error) announce(result.error.message);
  }

  /** What depends on whether an answer is on its way, and on which message is the last. */
  #showState() {
    const busy = isRunning(this.#conversation.id);
    if (!busy && document.activeElement === $("stop")) this.focus(); // its button is about to go
    $("stop").hidden = !busy;
    $("send").hidden = busy;
    const last = this.#conversation.messages.at(-1);
    for (const [id, drawn] of this.#drawn) drawn.setState({ last: id === last?.id, busy: busy && id === last?.id });
  }

  #keepingEnd(change) {
    const place = $("chat-scroll");
    const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 80;
    change();
    if (atEnd) this.#scrollToEnd();
  }

  #scrollToEnd() {
    const place = $("chat-scroll");
    place.scrollTop = place.scrollHeight;
  }
}
