// One message on the screen: its text, calls or tokens, and what can be done with it.

import { CallsView, writeCall } from "./calls.js";
import { button, copyText, fitHeight, h, icon } from "./dom.js";
import { describe } from "./generation.js";
import { tokensOf } from "./store.js";
import { AnswerView, splitThought } from "./thought.js";
import { legend, TokenView } from "./tokens.js";

export class Message {
  #message;
  #actions;
  #state = { last: false, busy: false };
  #showsTokens = false;
  #body = h("div", { class: "body" });
  #foot = h("div", { class: "foot" });
  #content = null; // what draws the body: an AnswerView or a TokenView
  #calls = new CallsView((results) => this.#actions.results(results));

  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    const name = { user: "You", assistant: "Model" }[message.role] ?? `Result of ${message.call.name}`;
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
    this.#calls.setOpen(state.last && !state.busy);
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
    this.#calls.update(this.#message.calls ?? []);
    if (this.#message.error && !this.#body.querySelector(".error")) this.#drawBody();
    this.#drawFoot();
  }

  #drawBody() {
    const { role, content, calls, call, error } = this.#message;
    this.#body.replaceChildren();
    if (role !== "assistant") {
      this.#content = null;
      if (call) this.#body.append(h("p", { class: "call-head" }, icon("tool"), h("code", null, call.name), " gave"));
      this.#body.append(h("p", { class: "plain-text" }, content));
    } else if (this.#showsTokens) {
      this.#content = new TokenView();
      this.#content.update(tokensOf.get(this.#message.id));
      this.#body.append(legend(), this.#content.element);
    } else {
      this.#content = new AnswerView();
      this.#content.update(content);
      this.#calls.update(calls ?? []);
      this.#body.append(...this.#content.elements, this.#calls.element);
    }
    if (error) this.#body.append(h("p", { class: "error", role: "alert" }, error));
  }

  #drawFoot() {
    const { role, content, calls, stats } = this.#message;
    if (this.#state.busy) {
      if (!this.#foot.querySelector(".waiting")) this.#foot.replaceChildren(h("span", { class: "waiting" }, "Answering"));
      return;
    }
    const tokens = this.canShowTokens ? button("tokens", this.#showsTokens ? "Show as text" : "Show token probabilities",
      () => { this.toggleTokens(); this.#foot.querySelector("[aria-pressed]").focus(); }, { "aria-pressed": this.#showsTokens }) : null;
    this.#foot.replaceChildren(h("span", { class: "stats" }, describe(stats)), h("span", { class: "actions" },
      ...[tokens,
        button("copy", "Copy", () => copyText(role === "assistant" ? [splitThought(content).answer, ...(calls ?? []).map(writeCall)].filter(Boolean).join("\n") : content)),
        content || !calls?.length ? button("edit", role === "assistant" ? "Edit" : "Edit and ask again", () => this.#startEdit()) : null,
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
      h("button", { type: "button", class: "primary", onclick: keep }, this.#message.role === "assistant" ? "Keep" : "Ask")));
    fitHeight(field);
    field.focus();
  }
}
