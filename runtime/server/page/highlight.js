// Turns source code into text nodes and coloured spans: comments, texts, numbers and keywords of common
// languages. It knows words, not grammars; what it doesn't know stays plain.

import { h } from "./dom.js";

const MAX_LENGTH = 50_000; // longer code stays plain: an answer is drawn anew with every piece of it

const words = (text) => new Set(text.split(" "));

const PYTHON = words("and as assert async await break case class continue def del elif else except False finally for "
  + "from global if import in is lambda match None nonlocal not or pass raise return self True try while with yield");
const SHELL = words("case do done elif else esac export fi for function if in local return then until while");
const SCRIPT = words("async await break case catch class const continue default delete do else export extends false finally for "
  + "from function if import in instanceof interface let new null of return static super switch this throw true try type "
  + "typeof undefined var void while yield");
const C_LIKE = words("abstract auto bool boolean break case catch char class const constexpr continue default defer delete do double "
  + "dyn else enum explicit extends extern false final finally float fn for func go goto if impl implements import in inline "
  + "int interface let long loop map match mod mut namespace new nil null nullptr override package private protected pub "
  + "public range return self short signed sizeof static string struct super switch template this throw throws trait true "
  + "try type typedef typename union unsafe unsigned use using val var virtual void volatile where while yield");
const SQL = words("alter and as asc between by case create delete desc distinct drop else end exists from full group having "
  + "in index inner insert into is join left like limit not null on or order outer primary key references right select set "
  + "table then union update values when where with");
const DATA = words("true false null yes no on off");

const TRIPLE = String.raw`"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)`;
// A text that is never closed ends with its line: a pattern that fails there would search again from each quote.
const DOUBLE = String.raw`"(?:[^"\\\n]|\\.)*(?:"|\\?(?=\n)|\\?$)`;
const QUOTED = String.raw`${DOUBLE}|'(?:[^'\\\n]|\\.)*(?:'|\\?(?=\n)|\\?$)`;
const BACKTICK = "`(?:[^`\\\\]|\\\\[\\s\\S])*(?:`|$)";
const HASH = "#[^\\n]*";
const SLASHES = String.raw`\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;

const FAMILIES = [
  { names: "python py python3", comment: HASH, text: `${TRIPLE}|${QUOTED}`, keywords: PYTHON },
  { names: "bash sh shell zsh console", comment: String.raw`(?<![^\s;])#[^\n]*`, text: QUOTED, keywords: SHELL },
  { names: "yaml yml toml ini", comment: String.raw`(?<!\S)#[^\n]*`, text: QUOTED, keywords: DATA },
  { names: "json json5 jsonc", comment: SLASHES, text: QUOTED, keywords: DATA },
  { names: "javascript js jsx typescript ts tsx", comment: SLASHES, text: `${QUOTED}|${BACKTICK}`, keywords: SCRIPT },
  { names: "c cpp c++ cc h hpp cuda csharp cs java kotlin go rust rs swift scala php zig", comment: SLASHES,
    text: String.raw`${DOUBLE}|'(?:[^'\\\n]|\\.)'`, keywords: C_LIKE },
  { names: "sql sqlite postgresql mysql", comment: "--[^\\n]*", text: QUOTED, keywords: SQL, ignoresCase: true },
];
const BY_NAME = new Map(FAMILIES.flatMap((family) => family.names.split(" ").map((name) => [name, compile(family)])));

function compile({ comment, text, keywords, ignoresCase }) {
  const pattern = new RegExp(String.raw`(?<comment>${comment})|(?<text>${text})|(?<number>\b\d[\w.]*)|(?<word>[A-Za-z_]\w*)`, "g");
  return { pattern, isKeyword: (word) => keywords.has(ignoresCase ? word.toLowerCase() : word) };
}

/** Nodes of the code, the same text as before. */
export function highlight(code, language) {
  const family = BY_NAME.get(language.toLowerCase());
  if (!family || code.length > MAX_LENGTH) return [code];
  const nodes = [];
  let end = 0;
  for (const match of code.matchAll(family.pattern)) {
    const { comment, text, number, word } = match.groups;
    if (word !== undefined && !family.isKeyword(word)) continue;
    const kind = comment !== undefined ? "comment" : text !== undefined ? "text" : number !== undefined ? "number" : "keyword";
    nodes.push(code.slice(end, match.index), h("span", { class: `code-${kind}` }, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, code.slice(end)].filter((node) => node !== "");
}
