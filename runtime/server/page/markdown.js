// Turns Markdown into DOM nodes, block by block. There is no innerHTML: what isn't understood is text.
//
// `MarkdownView.update` is called for each piece of a stream. Blocks whose source is the same keep
// their nodes, so a selection in an earlier paragraph survives and only the last block is drawn anew.

import { button, copyText, h } from "./dom.js";
import { highlight } from "./highlight.js";
import { renderInline } from "./inline.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,8})([-*+]|\d{1,9}[.)])(?:[ \t]+(.*)|)$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const TASK = /^\[([ xX])\]\s+/;
const MAX_DEPTH = 8;

export class MarkdownView {
  #blocks = [];

  constructor(element) {
    this.element = element;
  }

  update(text) {
    const blocks = split(text.replace(/\r\n?/g, "\n").split("\n"));
    let same = 0;
    while (same < blocks.length && this.#blocks[same]?.source === blocks[same].source) same++;
    for (const old of this.#blocks.slice(same)) old.node.remove();
    const kept = this.#blocks.slice(0, same);
    for (const block of blocks.slice(same)) {
      block.node = render(block, 0);
      this.element.append(block.node);
      kept.push(block);
    }
    this.#blocks = kept;
  }
}

/** Lines into blocks {kind, source, …}; `source` says everything about how a block looks. */
function split(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const block = readBlock(lines, at);
    block.source = lines.slice(at, at + block.length).join("\n");
    blocks.push(block);
    at += block.length;
  }
  return blocks;
}

function readBlock(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readFence(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", length: 1, level: heading[1].length, text: heading[2] ?? "" };
  if (RULE.test(line)) return { kind: "rule", length: 1 };
  if (QUOTE.test(line)) {
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end])) end++;
    return { kind: "quote", length: end - at, lines: lines.slice(at, end).map((text) => text.replace(QUOTE, "")) };
  }
  if (ITEM.test(line)) return readList(lines, at);
  if (isTable(lines, at)) return readTable(lines, at);
  let end = at + 1;
  while (end < lines.length && !interrupts(lines, end)) end++;
  return { kind: "paragraph", length: end - at, text: lines.slice(at, end).map((text) => text.trimStart()).join("\n") };
}

/** Whether a paragraph ends before this line. */
function interrupts(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(line);
  const startsList = item && item[3] && (!/\d/.test(item[2]) || /^1[.)]$/.test(item[2]));
  return !line.trim() || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)
    || startsList || isTable(lines, at);
}

function readFence(lines, at, [, marks, language]) {
  const close = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !close.test(lines[end])) end++;
  const text = lines.slice(at + 1, end).join("\n");
  return { kind: "code", length: Math.min(end + 1, lines.length) - at, text, language: language.trim().split(/\s/)[0] };
}

function readList(lines, at) {
  const first = ITEM.exec(lines[at]);
  const ordered = /\d/.test(first[2]);
  const items = [];
  let loose = false;
  let end = at;
  let indent = 0;
  while (end < lines.length) {
    const line = lines[end];
    const item = ITEM.exec(line);
    const depth = line.search(/\S/);
    if (item && (items.length === 0 || depth < indent) && depth >= first[1].length
        && /\d/.test(item[2]) === ordered && !RULE.test(line)) {
      indent = item[1].length + item[2].length + 1;
      items.push([item[3] ?? ""]);
    } else if (!line.trim()) {
      // a blank line belongs to the list if the list goes on after it
      const next = lines.slice(end + 1).find((text) => text.trim());
      const following = next === undefined ? null : ITEM.exec(next);
      const goesOn = next !== undefined && (next.search(/\S/) >= indent
        || (following && following[1].length >= first[1].length && /\d/.test(following[2]) === ordered && !RULE.test(next)));
      if (!goesOn) break;
      loose = true;
      items.at(-1).push("");
    } else if (depth >= indent) {
      items.at(-1).push(line.slice(indent));
    } else if (!lines[end - 1].trim() || item || interrupts(lines, end)) {
      break;
    } else {
      items.at(-1).push(line.trim()); // a paragraph that goes on without its indent
    }
    end++;
  }
  return { kind: "list", length: end - at, ordered, start: ordered ? parseInt(first[2], 10) : 1, loose, items };
}

function isTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("|") && DIVIDER.test(lines[at + 1])
    && cells(lines[at]).length === cells(lines[at + 1]).length;
}

function readTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && lines[end].includes("|")) end++;
  const alignments = cells(lines[at + 1]).map((cell) => {
    if (!cell.endsWith(":")) return null;
    return cell.startsWith(":") ? "center" : "right";
  });
  return { kind: "table", length: end - at, alignments, head: cells(lines[at]), rows: lines.slice(at + 2, end).map(cells) };
}

/** Cells between bars; a bar in backticks or after a backslash is part of its cell. */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(^|[^\\])\|$/, "$1");
  const parts = inner.match(/(?:`[^`]*`|\\.|[^|\\])+|(?<=\|)(?=\|)|^(?=\|)/g) ?? [""];
  return parts.map((cell) => cell.trim().replace(/\\\|/g, "|"));
}

function render(block, depth) {
  switch (block.kind) {
    case "heading":
      // the page's own headings are the first two levels
      return h(`h${Math.min(6, block.level + 2)}`, { class: `level-${block.level}` }, renderInline(block.text));
    case "rule": return h("hr");
    case "code": return renderCode(block);
    case "quote": return h("blockquote", null, renderAll(block.lines, depth + 1));
    case "list": return renderList(block, depth);
    case "table": return renderTable(block);
    default: return h("p", null, renderInline(block.text));
  }
}

function renderAll(lines, depth) {
  if (depth > MAX_DEPTH) return [h("p", null, lines.join("\n"))];
  return split(lines).map((block) => render(block, depth));
}

function renderCode({ text, language }) {
  const copy = button("copy", "Copy", () => copyText(text), { words: true });
  return h("figure", { class: "code" },
    h("figcaption", null, h("span", null, language || "text"), copy),
    h("pre", { tabindex: "0" }, h("code", null, highlight(text, language))));
}

function renderList({ ordered, start, loose, items }, depth) {
  const rows = items.map((lines) => {
    const task = TASK.exec(lines[0]);
    const parts = renderAll(task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines, depth + 1);
    const unwrap = (node) => (node.tagName === "P" && !loose ? [...node.childNodes] : node);
    const box = task && h("input", { type: "checkbox", disabled: true, checked: task[1] !== " ",
      "aria-label": task[1] === " " ? "open" : "done" });
    return h("li", { class: task ? "task" : null }, box, parts.map(unwrap));
  });
  return h(ordered ? "ol" : "ul", ordered && start !== 1 ? { start } : null, rows);
}

function renderTable({ alignments, head, rows }) {
  const cell = (tag) => (text, column) =>
    h(tag, { class: alignments[column] ? `align-${alignments[column]}` : null }, renderInline(text));
  const widths = (row) => alignments.map((_, column) => row[column] ?? "");
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, h("table", null,
    h("thead", null, h("tr", null, head.map(cell("th")))),
    h("tbody", null, rows.map((row) => h("tr", null, widths(row).map(cell("td")))))));
}
