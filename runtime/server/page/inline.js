// Turns a line of Markdown into text nodes, code, emphasis and links. Only web and mail addresses
// become links; an image becomes a link, because the page loads nothing from elsewhere.

import { h } from "./dom.js";

const ADDRESS = /^(?:https?:\/\/|mailto:)\S+$/i;
const LINK = /^!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s*<?((?:[^\s()<>]|\([^\s()]*\))*)>?(?:\s+["'(][^\n]*?["')])?\s*\)/;
const BARE = /^https?:\/\/[^\s<>"'`]*[^\s<>"'`.,:;!?)\]}*_]/;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const MAX_DEPTH = 6;
const MAX_SPAN = 4000; // of emphasis: an opening mark doesn't search a whole text for its end

export function renderInline(text, depth = 0) {
  const nodes = [];
  let plain = "";
  const flush = () => { if (plain) nodes.push(plain); plain = ""; };
  const add = (node) => { flush(); nodes.push(node); };
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at, at + 2000);
    const found = depth < MAX_DEPTH ? read(text, rest, at, depth) : null;
    if (found) {
      if (typeof found.node === "string") plain += found.node;
      else add(found.node);
      at += found.length;
    } else {
      plain += text[at++];
    }
  }
  flush();
  return nodes;
}

/** What starts here, if anything does: {node, length}. */
function read(text, rest, at, depth) {
  switch (text[at]) {
    case "\\": return /^\\[!-/:-@[-`{-~]/.test(rest) ? { node: rest[1], length: 2 } : null;
    case "\n": return { node: h("br"), length: 1 };
    case "`": return readCode(text, at);
    case "!": return rest[1] === "[" ? readLink(rest, depth) : null;
    case "[": return readLink(rest, depth);
    case "<": return readAngle(rest);
    case "h": return /\w/.test(text[at - 1] ?? "") ? null : readBare(rest);
    case "*": case "_": case "~": return readMark(text, at, depth);
    default: return null;
  }
}

function readCode(text, at) {
  const [marks] = /^`+/.exec(text.slice(at));
  let end = text.indexOf(marks, at + marks.length);
  while (end >= 0 && text[end + marks.length] === "`") {
    while (text[end] === "`") end++;
    end = text.indexOf(marks, end);
  }
  if (end < 0) return { node: marks, length: marks.length };
  const inner = text.slice(at + marks.length, end).replace(/\n/g, " ").replace(/^ (.*\S.*) $/, "$1");
  return { node: h("code", null, inner), length: end + marks.length - at };
}

function readLink(rest, depth) {
  const match = LINK.exec(rest);
  if (!match || !ADDRESS.test(match[2])) return null;
  return { node: anchor(match[2], renderInline(match[1] || match[2], depth + 1)), length: match[0].length };
}

function readAngle(rest) {
  const match = /^<([^\s<>]+)>/.exec(rest);
  return match && ADDRESS.test(match[1]) ? { node: anchor(match[1], [match[1]]), length: match[0].length } : null;
}

function readBare(rest) {
  const match = BARE.exec(rest);
  return match ? { node: anchor(match[0], [match[0]]), length: match[0].length } : null;
}

function anchor(href, children) {
  return h("a", { href, rel: "noopener noreferrer", target: "_blank" }, children);
}

function readMark(text, at, depth) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const from = at + mark.length;
    const within = (index) => /\w/.test(text[index] ?? "");
    if (/\s/.test(text[from] ?? " ") || (mark[0] === "_" && within(at - 1))) continue;
    for (let end = text.indexOf(mark, from + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
      const longer = mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark);
      if (end - from > MAX_SPAN) break;
      if (longer) { while (text[end + 1] === mark) end++; continue; }
      if (/\s/.test(text[end - 1]) || (mark[0] === "_" && within(end + mark.length))) continue;
      // *** closes the inner mark first, so the outer one takes the later two
      if (mark.length === 2 && text[end + 2] === mark[0]) end++;
      return { node: h(tag, null, renderInline(text.slice(from, end), depth + 1)), length: end + mark.length - at };
    }
  }
  return null;
}
