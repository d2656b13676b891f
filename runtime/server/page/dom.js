// Builds DOM nodes. Strings become text nodes, so nothing that a model writes becomes markup.

export const $ = (id) => document.getElementById(id);

/** h("a", {href: "…", onclick: f}, "text", node, null): `on…` are listeners, null children are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function icon(name) {
  return svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

/** A button with an icon; `words` are shown beside it, or only told and hinted at. */
export function button(name, label, onclick, { words = false, ...rest } = {}) {
  const hint = words ? {} : { "aria-label": label, title: label };
  const attributes = { type: "button", class: "quiet", onclick, ...hint, ...rest };
  return h("button", attributes, icon(name), words ? h("span", null, label) : null);
}

/** A text field as tall as its text. */
export function fitHeight(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // no clipboard outside of https and localhost: the old way, by a selection
    const field = h("textarea", { class: "hidden", "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  announce("Copied");
}

let toastTimer = 0;

/** A line at the bottom for some seconds, with a button for what can be done about it. */
export function toast(text, action) {
  const place = $("toast");
  clearTimeout(toastTimer);
  const act = () => { place.hidden = true; action.run(); };
  place.replaceChildren(h("span", null, text),
    ...(action ? [h("button", { type: "button", class: "link", onclick: act }, action.label)] : []));
  place.hidden = false;
  toastTimer = setTimeout(() => { place.hidden = true; }, 8000);
}

/** Tell screen readers, without showing anything. */
export function announce(text) {
  $("announcer").textContent = text;
}
