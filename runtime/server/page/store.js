// Keeps conversations in the browser: one entry of local storage for each.

import { toast } from "./dom.js";

const PREFIX = "ingot.conversation.";
const LAST = "ingot.last.";

/** Log probabilities by message id: large, so they last only as long as the page is open. */
export const tokensOf = new Map();

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** kind is "chat" ({system, messages}) or "complete" ({prompt, output}). */
export function createConversation(kind, system = "") {
  const now = Date.now();
  const common = { id: newId(), kind, title: "", created: now, updated: now };
  if (kind === "chat") return { ...common, system, messages: [] };
  return { ...common, prompt: "", output: null };
}

export function newMessage(role, content) {
  return { id: newId(), role, content, stats: null };
}

export const isEmpty = (conversation) => conversation.kind === "chat"
  ? conversation.messages.length === 0 : !conversation.prompt && !conversation.output;

/** Conversations that were deleted while an answer was on its way: its end must not bring them back. */
const removed = new Set();

export function save(conversation) {
  if (removed.has(conversation.id)) return;
  conversation.updated = Date.now();
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
  } catch {
    toast("The browser's storage is full, so this conversation isn't kept. Delete some, or export it.");
  }
}

export function load(id) {
  const text = localStorage.getItem(PREFIX + id);
  return text === null ? null : parse(text);
}

export function remove(id) {
  removed.add(id);
  localStorage.removeItem(PREFIX + id);
}

export function restore(conversation) {
  removed.delete(conversation.id);
  save(conversation);
}

/** All of one kind, the latest first. */
export function list(kind) {
  const found = [];
  for (let index = 0; index < localStorage.length; index++) {
    const key = localStorage.key(index);
    if (!key.startsWith(PREFIX)) continue;
    const conversation = parse(localStorage.getItem(key));
    if (conversation?.kind === kind) found.push(conversation);
  }
  return found.sort((a, b) => b.created - a.created);
}

/** An entry that isn't ours, or was cut, is left alone and not shown. */
function parse(text) {
  try {
    const value = JSON.parse(text);
    const whole = value.kind === "chat" ? Array.isArray(value.messages) : value.kind === "complete";
    return whole && typeof value.id === "string" ? value : null;
  } catch {
    return null;
  }
}

export const remember = (name, value) => localStorage.setItem(LAST + name, value);
export const recall = (name) => localStorage.getItem(LAST + name) ?? "";

export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.kind === "chat" ? conversation.messages[0]?.content : conversation.prompt;
  const line = first?.trim().split("\n")[0] ?? "";
  if (!line) return conversation.kind === "chat" ? "New conversation" : "New text";
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

/** Hand a conversation out as a file. */
export function exportJson(conversation) {
  const text = JSON.stringify(conversation, null, 2);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${titleOf(conversation).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "conversation"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
