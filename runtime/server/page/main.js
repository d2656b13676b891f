// Ties the page together: which view and conversation is shown (in the address), and what the keys do.

import { getJson, onKeyNeeded } from "./api.js";
import { ChatView } from "./chat.js";
import { CompleteView } from "./complete.js";
import { $, announce, h, toast } from "./dom.js";
import { EngineView } from "./engine.js";
import { showSystemPrompt, startSettings } from "./settings.js";
import * as store from "./store.js";

const NAMES = { chat: "Chat", complete: "Complete", engine: "Engine" };
const LISTS = { chat: "Conversations", complete: "Texts" };
const narrow = matchMedia("(max-width: 820px)");

let model = null;
let view = null;
let current = null; // the conversation on the screen; null in the engine view

const changed = (conversation) => {
  drawTitle();
  if (conversation) drawHistory();
};
const modelName = () => model?.id ?? "default";
const views = {
  chat: new ChatView(modelName, changed),
  complete: new CompleteView(modelName, changed),
  engine: new EngineView(),
};

/** `#/chat/ID`, `#/complete/ID`, `#/engine`; without an id, a new one begins. */
function route() {
  const [, wanted, id] = location.hash.split("/");
  if (!(wanted in NAMES)) {
    location.replace(`#/${model?.has_chat_template === false ? "complete" : "chat"}`);
    return;
  }
  view = wanted;
  views.engine.stop();
  for (const name of Object.keys(NAMES)) {
    $(`view-${name}`).hidden = name !== view;
    const link = document.querySelector(`[data-view="${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "engine") {
    current = null;
    views.engine.start();
  } else {
    const same = current?.id === id && current?.kind === view;
    if (!same) current = open(view, id);
    views[view].show(current);
    showSystemPrompt(current.system ?? "", view === "chat");
  }
  drawTitle();
  drawHistory();
  closeSidebar();
}

// What an answer is being written to stays the same object, also when the user comes back to it.
const opened = new Map();
const latest = {}; // kind -> id of what was shown last

function open(kind, id = latest[kind]) {
  const found = opened.get(id) ?? (id && store.load(id));
  const conversation = found?.kind === kind ? found : store.createConversation(kind, store.recall("system"));
  opened.set(conversation.id, conversation);
  latest[kind] = conversation.id;
  const address = `#/${kind}/${conversation.id}`;
  if (location.hash !== address) history.replaceState(null, "", address);
  return conversation;
}

function startNew() {
  const kind = view === "engine" ? "chat" : view;
  delete latest[kind];
  history.pushState(null, "", `#/${kind}`);
  route();
  views[kind].focus();
}

function drawTitle() {
  const title = current ? store.titleOf(current) : NAMES[view];
  $("title").hidden = !current;
  $("title-plain").hidden = Boolean(current);
  $(current ? "title" : "title-plain").textContent = title;
  document.title = `${title} · Ingot`;
  for (const id of ["export", "delete", "settings-open"]) $(id).hidden = !current;
  if (!current) toggleSettings(false);
}

function drawHistory() {
  $("history").hidden = view === "engine";
  if (view === "engine") return;
  $("history-title").textContent = LISTS[view];
  $("new").setAttribute("aria-label", view === "chat" ? "New conversation" : "New text");
  const kept = store.list(view);
  $("conversations").replaceChildren(...kept.map((conversation) => h("li", null,
    h("a", { href: `#/${view}/${conversation.id}`, "aria-current": conversation.id === current?.id ? "true" : null },
      store.titleOf(conversation)))),
    ...(kept.length ? [] : [h("li", { class: "quiet-text" }, "None yet")]));
}

function rename() {
  const shown = $("title");
  const field = h("input", { class: "rename", "aria-label": "Name", maxlength: "80" });
  field.value = store.titleOf(current);
  let done = false;
  const end = (keep) => {
    if (done) return;
    done = true;
    const name = field.value.trim();
    if (keep && name && name !== store.titleOf(current)) {
      current.title = name;
      store.save(current);
    }
    field.replaceWith(shown);
    changed(current);
    shown.focus();
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") { event.stopPropagation(); end(false); }
  });
  field.addEventListener("blur", () => end(true));
  shown.replaceWith(field);
  field.select();
}

function removeCurrent() {
  const gone = current;
  views[view].stop();
  store.remove(gone.id);
  opened.delete(gone.id);
  startNew();
  toast("Deleted.", { label: "Undo", run: () => {
    opened.set(gone.id, gone);
    store.restore(gone);
    location.hash = `#/${gone.kind}/${gone.id}`;
  } });
}

function toggleSettings(open = $("settings").hidden) {
  $("settings").hidden = !open;
  $("settings-open").setAttribute("aria-expanded", open);
  document.body.classList.toggle("with-settings", open);
  $("scrim").hidden = !(narrow.matches && open);
  // the field's height is only known while it can be seen
  if (open && current?.kind === "chat") showSystemPrompt(current.system, true);
}

function openSidebar() {
  document.body.classList.add("with-sidebar");
  $("sidebar-open").setAttribute("aria-expanded", "true");
  $("scrim").hidden = false;
  $("sidebar").inert = false;
  $("sidebar-close").focus();
}

function closeSidebar() {
  document.body.classList.remove("with-sidebar");
  $("sidebar-open").setAttribute("aria-expanded", "false");
  $("scrim").hidden = !(narrow.matches && !$("settings").hidden);
  $("sidebar").inert = narrow.matches;
}

const THEMES = ["system", "light", "dark"];

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme-name").textContent = theme[0].toUpperCase() + theme.slice(1);
  $("theme").setAttribute("aria-label", `Colours: ${theme}`);
  views.engine.redraw();
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(localStorage.getItem("ingot.theme") ?? "system") + 1) % THEMES.length];
  if (theme === "system") localStorage.removeItem("ingot.theme");
  else localStorage.setItem("ingot.theme", theme);
  showTheme(theme);
}

/** By `event.code`, because Alt changes the letter on some keyboards. */
const KEYS = [
  { code: "KeyN", keys: "Alt+N", text: "New conversation", run: startNew },
  { code: "Digit1", keys: "Alt+1", text: "Chat", run: () => { location.hash = "#/chat"; } },
  { code: "Digit2", keys: "Alt+2", text: "Complete", run: () => { location.hash = "#/complete"; } },
  { code: "Digit3", keys: "Alt+3", text: "Engine", run: () => { location.hash = "#/engine"; } },
  { code: "KeyI", keys: "Alt+I", text: "Go to the text field", run: () => views[view].focus?.() },
  { code: "KeyR", keys: "Alt+R", text: "Answer again", run: () => views[view].regenerate?.() },
  { code: "KeyP", keys: "Alt+P", text: "Token probabilities", run: () => views[view].toggleTokens?.() },
  { code: "KeyS", keys: "Alt+S", text: "Settings", run: () => { if (current) toggleSettings(); } },
  { code: "KeyK", keys: "Alt+K", text: "This list", run: () => $("keys").showModal() },
];
const MORE_KEYS = [["Enter", "Send"], ["Ctrl+Enter", "Complete the text; send an edit"], ["Esc", "Stop; close a panel"],
  ["← →", "From token to token"]];

function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (document.body.classList.contains("with-sidebar")) { closeSidebar(); $("sidebar-open").focus(); }
    else if (narrow.matches && !$("settings").hidden) { toggleSettings(false); $("settings-open").focus(); }
    else if (current) views[view].stop();
    return;
  }
  if (!event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const found = KEYS.find(({ code }) => code === event.code);
  if (!found) return;
  event.preventDefault();
  found.run();
}

function askKey(wasWrong) {
  const dialog = $("key-dialog");
  $("key-text").textContent = wasWrong ? "The server didn't take that key." : "This server asks for a key. It is kept in this tab until you close it.";
  $("key").value = "";
  // several requests may learn at once that they need a key
  if (!dialog.open) { dialog.returnValue = ""; dialog.showModal(); }
  return new Promise((resolve) => dialog.addEventListener("close", () =>
    resolve(dialog.returnValue === "use" && $("key").value.trim() ? $("key").value.trim() : null), { once: true }));
}

async function readModel() {
  try {
    [model] = (await getJson("v1/models")).data;
    const context = model.max_context_tokens ? ` · ${model.max_context_tokens.toLocaleString("en")} tokens of context` : "";
    $("model").textContent = model.id + context;
  } catch (error) {
    $("model").textContent = error.message;
    announce(error.message);
  }
}

$("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
$("new").addEventListener("click", startNew);
$("title").addEventListener("click", rename);
$("export").addEventListener("click", () => store.exportJson(current));
$("delete").addEventListener("click", removeCurrent);
$("settings-open").addEventListener("click", () => toggleSettings());
$("settings-close").addEventListener("click", () => { toggleSettings(false); $("settings-open").focus(); });
$("settings-form").addEventListener("submit", (event) => event.preventDefault());
$("sidebar-open").addEventListener("click", openSidebar);
$("sidebar-close").addEventListener("click", () => { closeSidebar(); $("sidebar-open").focus(); });
$("scrim").addEventListener("click", () => { closeSidebar(); toggleSettings(false); });
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("theme").addEventListener("click", nextTheme);
$("keys-open").addEventListener("click", () => $("keys").showModal());
$("keys-list").append(...[...KEYS.map(({ keys, text }) => [keys, text]), ...MORE_KEYS].flatMap(([keys, text]) =>
  [h("dt", null, h("kbd", null, keys)), h("dd", null, text)]));
addEventListener("keydown", onKey);
addEventListener("hashchange", route);
addEventListener("storage", () => { if (view) drawHistory(); });
narrow.addEventListener("change", closeSidebar);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => views.engine.redraw());

onKeyNeeded(askKey);
startSettings((system) => {
  if (current?.kind !== "chat") return;
  current.system = system;
  store.remember("system", system);
  if (!store.isEmpty(current)) store.save(current);
});
showTheme(localStorage.getItem("ingot.theme") ?? "system");
const reading = readModel();
if (!location.hash) await reading; // what the model can do decides which view comes first
route();
if (current && !narrow.matches) views[view].focus();
