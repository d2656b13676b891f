// Turns tokens with log probabilities into text whose colour says how sure the model was.
// Hovering or focusing a token shows its probability and the alternatives.

import { $, h } from "./dom.js";

const PREVIEW = 5; // alternatives that the card shows

/** "83%", "0.4%", "under 0.1%" */
export function percent(logprob) {
  const value = Math.exp(logprob) * 100;
  if (value < 0.1) return "<0.1%";
  return value < 10 ? `${value.toFixed(1)}%` : `${Math.round(value)}%`;
}

/** 0 for what the model expected, 5 for what surprised it. */
export function surprise(logprob) {
  const limits = [0.9, 0.6, 0.3, 0.1, 0.02];
  const probability = Math.exp(logprob);
  const level = limits.findIndex((limit) => probability >= limit);
  return level < 0 ? limits.length : level;
}

/** A token as it can be read: spaces and line ends are shown, half a character as its bytes. */
export function visible({ text, bytes }) {
  if (text.includes("\ufffd") && bytes) {
    return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
  }
  return text.replace(/ /g, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "(nothing)";
}

export class TokenView {
  #tokens = [];

  constructor() {
    this.element = h("div", { class: "tokens", role: "group", "aria-label": "Tokens; arrow keys move between them" });
    this.element.addEventListener("pointerover", (event) => this.#show(event.target));
    this.element.addEventListener("pointerleave", hideCard);
    this.element.addEventListener("focusin", (event) => this.#show(event.target));
    this.element.addEventListener("focusout", hideCard);
    this.element.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Show these tokens; those that are there already stay as they are. */
  update(tokens) {
    const from = this.#tokens.length;
    this.#tokens = tokens;
    for (let index = from; index < tokens.length; index++) {
      const token = tokens[index];
      const level = token.logprob === null ? 0 : surprise(token.logprob);
      const words = token.logprob === null ? visible(token) : `${visible(token)}, ${percent(token.logprob)}`;
      this.element.append(h("span", { class: `token s${level}`, "data-index": index, role: "button",
        tabindex: index === 0 ? "0" : "-1", "aria-label": words }, token.text));
    }
  }

  #move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const all = this.element.children;
    const now = Number(document.activeElement.dataset.index ?? 0);
    const next = all[Math.max(0, Math.min(all.length - 1, now + step))];
    all[now].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  #show(target) {
    const token = this.#tokens[target.dataset?.index];
    if (token) showCard(token, target);
  }
}

function hideCard() {
  $("token-card").hidden = true;
}

function showCard(token, anchor) {
  if (token.logprob === null) return hideCard();
  const card = $("token-card");
  const others = token.top.slice(0, PREVIEW);
  const rank = others.findIndex(([text]) => text === token.text);
  const rows = rank < 0 ? [...others, [token.text, token.logprob]] : others;
  card.replaceChildren(
    h("p", { class: "token-head" }, h("code", null, visible(token)), h("strong", null, percent(token.logprob))),
    h("ul", null, rows.map(([text, logprob]) => h("li", { class: text === token.text ? "chosen" : null },
      h("code", null, visible({ text, bytes: null })),
      h("meter", { min: "0", max: "1", value: Math.exp(logprob).toFixed(4), "aria-hidden": "true" }),
      h("span", null, percent(logprob))))));
  card.hidden = false;
  place(card, anchor.getClientRects()[0] ?? anchor.getBoundingClientRect());
}

/** Below its token if there is room, else above; never out of the window. */
function place(card, box) {
  const gap = 8;
  const { offsetWidth: width, offsetHeight: height } = card;
  const left = Math.max(gap, Math.min(box.left, innerWidth - width - gap));
  const below = box.bottom + gap;
  const top = below + height > innerHeight - gap ? box.top - height - gap : below;
  card.style.left = `${left}px`;
  card.style.top = `${Math.max(gap, top)}px`;
}

// what may take the token away, or what is in front of it
for (const event of ["scroll", "keydown", "pointerdown", "hashchange"]) addEventListener(event, hideCard, { capture: true, passive: true });

/** What the colours mean. */
export function legend() {
  const labels = ["90%", "60%", "30%", "10%", "2%", "less"];
  return h("p", { class: "legend" }, "How sure the model was: ",
    labels.map((label, level) => h("span", { class: `token s${level}` }, label)));
}
