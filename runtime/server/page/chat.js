// The conversation: messages, their actions, and the answer that is being written.

import { $, announce, button, copyText, fitHeight, h } from "./dom.js";
import { describe, isRunning, Narrator, run, stopRun } from "./generation.js";
import { requestFields } from "./settings.js";
import { newMessage, save, tokensOf } from "./store.js";
import { AnswerView, splitThought } from "./thought.js";
import { legend, TokenView } from "./tokens.js";

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
    if (message.role === "user") {
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
    const messages = conversation.messages.map(({ role, content }) =>
      ({ role, content: role === "assistant" ? splitThought(content).answer : content })).filter(({ content }) => content);
    if (conversation.system.trim()) messages.unshift({ role: "system", content: conversation.system });
    const body = { model: this.#model(), messages, ...requestFields("chat") };
    const message = newMessage("assistant", "");
    this.#push(message);
    this.#scrollToEnd();
    announce("The model is answering");
    const narrator = new Narrator(announce);
    // the conversation on the screen may be another by now
    const drawn = () => this.#drawn.get(message.id);
    const answering = run(conversation.id, "v1/chat/completions", body, (text, tokens) => {
      message.content = text;
      tokensOf.set(message.id, tokens);
      this.#keepingEnd(() => drawn()?.update());
      if (drawn()) narrator.update(splitThought(text).answer);
    });
    this.#showState();
    const result = await answering;
    Object.assign(message, { content: result.text, stats: result.stats });
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

/** One message on the screen. */
class Message {
  #message;
  #actions;
  #state = { last: false, busy: false };
  #showsTokens = false;
  #body = h("div", { class: "body" });
  #foot = h("div", { class: "foot" });
  #content = null; // what draws the body: an AnswerView or a TokenView

  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    const name = message.role === "user" ? "You" : "Model";
    this.element = h("article", { class: `message ${message.role}`, "aria-label": name }, this.#body, this.#foot);
    this.#drawBody();
  }

  get canShowTokens() {
    return Boolean(tokensOf.get(this.#message.id)?.length);
  }

  setState(state) {
    this.#state = state;
    this.element.classList.toggle("last", state.last);
    this.element.classList.toggle("busy", state.busy);
    this.element.setAttribute("aria-busy", state.busy);
    this.#drawFoot();
  }

  toggleTokens() {
    this.#showsTokens = !this.#showsTokens;
    this.#drawBody();
    this.#drawFoot();
  }

  update() {
    if (this.#showsTokens) this.#content.update(tokensOf.get(this.#message.id));
    else this.#content?.update(this.#message.content);
    if (this.#message.error && !this.#body.querySelector(".error")) this.#drawBody();
    this.#drawFoot();
  }

  #drawBody() {
    const { role, content, error } = this.#message;
    this.#body.replaceChildren();
    if (role === "user") {
      this.#content = null;
      this.#body.append(h("p", { class: "plain-text" }, content));
    } else if (this.#showsTokens) {
      this.#content = new TokenView();
      this.#content.update(tokensOf.get(this.#message.id));
      this.#body.append(legend(), this.#content.element);
    } else {
      this.#content = new AnswerView();
      this.#content.update(content);
      this.#body.append(...this.#content.elements);
    }
    if (error) this.#body.append(h("p", { class: "error", role: "alert" }, error));
  }

  #drawFoot() {
    const { role, content, stats } = this.#message;
    if (this.#state.busy) {
      if (!this.#foot.querySelector(".waiting")) this.#foot.replaceChildren(h("span", { class: "waiting" }, "Answering"));
      return;
    }
    const tokens = this.canShowTokens ? button("tokens", this.#showsTokens ? "Show as text" : "Show token probabilities",
      () => { this.toggleTokens(); this.#foot.querySelector("[aria-pressed]").focus(); }, { "aria-pressed": this.#showsTokens }) : null;
    this.#foot.replaceChildren(h("span", { class: "stats" }, describe(stats)), h("span", { class: "actions" },
      ...[tokens,
        button("copy", "Copy", () => copyText(role === "assistant" ? splitThought(content).answer : content)),
        button("edit", role === "user" ? "Edit and ask again" : "Edit", () => this.#startEdit()),
        this.#state.last ? button("again", "Answer again", this.#actions.again) : null].filter(Boolean)));
  }

  #startEdit() {
    const field = h("textarea", { class: "edit", "aria-label": "Edit the message" });
    field.value = this.#message.content;
    const end = () => { this.#drawBody(); this.#drawFoot(); this.#foot.querySelector("button")?.focus(); };
    const keep = () => {
      const text = field.value.trim();
      if (text) {
        delete this.#message.error;
        this.#showsTokens = false;
        this.#actions.edit(text);
      }
      end();
    };
    field.addEventListener("input", () => fitHeight(field));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); end(); }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) keep();
    });
    this.#body.replaceChildren(field);
    this.#foot.replaceChildren(h("span", { class: "row" },
      h("button", { type: "button", class: "plain", onclick: end }, "Cancel"),
      h("button", { type: "button", class: "primary", onclick: keep }, this.#message.role === "user" ? "Ask" : "Keep")));
    fitHeight(field);
    field.focus();
  }
}
