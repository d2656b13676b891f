"""Markdown to nodes, case by case, as the browser draws it."""

from playwright.sync_api import Page

DRAW = """async (text) => {
  const { MarkdownView } = await import("/page/markdown.js");
  const place = document.createElement("div");
  new MarkdownView(place).update(text);
  for (const element of place.querySelectorAll("figcaption")) element.remove();
  for (const element of place.querySelectorAll("*")) {
    for (const { name } of [...element.attributes]) {
      if (!["href", "start", "class"].includes(name)) element.removeAttribute(name);
    }
    if (!/^align-/.test(element.className)) element.removeAttribute("class");
  }
  return place.innerHTML;
}"""
CASES = {
    "plain *a* _b_ **c** __d__ ~~e~~ `f`": "<p>plain <em>a</em> <em>b</em> <strong>c</strong> "
    "<strong>d</strong> <del>e</del> <code>f</code></p>",
    "***both*** and **a *b* c**": "<p><strong><em>both</em></strong> and "
    "<strong>a <em>b</em> c</strong></p>",
    "snake_case_name 2 * 3 * 4 a*": "<p>snake_case_name 2 * 3 * 4 a*</p>",
    "``a ` b`` and `unclosed": "<p><code>a ` b</code> and `unclosed</p>",
    r"\*no\* a\nb": r"<p>*no* a\nb</p>",
    "one\ntwo\n\nthree": "<p>one<br>two</p><p>three</p>",
    "# a\n### b #": "<h3>a</h3><h5>b</h5>",
    "#no heading": "<p>#no heading</p>",
    "- a\n- b\n  - c\n\n    more\n- d": None,
    "1. a\n2. b": "<ol><li>a</li><li>b</li></ol>",
    "7) a\n8) b": '<ol start="7"><li>a</li><li>b</li></ol>',
    "in 1999. we": "<p>in 1999. we</p>",
    "text\n- item": "<p>text</p><ul><li>item</li></ul>",
    "- a\n\n- b": "<ul><li><p>a</p></li><li><p>b</p></li></ul>",
    "- a\n  ```\n  code\n  ```": "<ul><li>a<figure><pre><code>code</code></pre></figure></li></ul>",
    "```\nx < 1\n\n# no": "<figure><pre><code>x &lt; 1\n\n# no</code></pre></figure>",
    "```py\nif x:\n  # no": "<figure><pre><code><span>if</span> x:\n  <span># no</span>"
    "</code></pre></figure>",
    "- [x] a\n- [ ] b": "<ul><li><input>a</li><li><input>b</li></ul>",
    "~~~\n```\n~~~": "<figure><pre><code>```</code></pre></figure>",
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "---\n***": "<hr><hr>",
    "|a|b|\n|-|:-:|\n|1||\n|`x\\|y`|2|3|": "<div><table><thead><tr><th>a</th>"
    '<th class="align-center">b</th></tr></thead><tbody><tr><td>1</td>'
    '<td class="align-center"></td></tr><tr><td><code>x|y</code></td>'
    '<td class="align-center">2</td></tr></tbody></table></div>',
    "a | b": "<p>a | b</p>",
    "[t](https://e.org/a_(b)) <https://e.org> https://e.org/x.": '<p><a href="https://e.org/a_(b)">'
    't</a> <a href="https://e.org">https://e.org</a> '
    '<a href="https://e.org/x">https://e.org/x</a>.</p>',
    "![alt](https://e.org/i.png)": '<p><a href="https://e.org/i.png">alt</a></p>',
    "[x](javascript:alert(1)) [y](/here)": "<p>[x](javascript:alert(1)) [y](/here)</p>",
    "<b>no</b> &amp; <!-- -->": "<p>&lt;b&gt;no&lt;/b&gt; &amp;amp; &lt;!-- --&gt;</p>",
    "": "",
}
HARD = {
    "stars": "*a " * 8000,
    "open brackets": "[" * 20000,
    "backticks": "`a``b```" * 3000,
    "quotes": ">" * 20000,
    "nested lists": "\n".join("  " * min(depth, 500) + "- a" for depth in range(1000)),
    "bars": "|" * 10000 + "\n" + "|-" * 10000,
    "underscores": "_" * 20000,
    "escaped quotes": "```c\n" + '"' + r"\"" * 20000 + "\n```",
    "open texts": "```python\n" + ('"""' + "a ") * 6000 + "\n```",
    "addresses": "http://a" * 4000,
}


def test_cases(page: Page) -> None:
    for text, expected in CASES.items():
        drawn = page.evaluate(DRAW, text)
        if expected is not None:
            assert drawn == expected, text
    nested = page.evaluate(DRAW, "- a\n- b\n  - c\n\n    more\n- d")
    assert nested.count("<li>") == 4 and nested.count("<ul>") == 2 and "<p>more</p>" in nested


def test_hard_texts_are_drawn_in_time(page: Page) -> None:
    timed = "async (text) => { const began = performance.now(); const draw = %s; await draw(text); "
    for name, text in HARD.items():
        seconds = page.evaluate(timed % DRAW + "return (performance.now() - began) / 1000 }", text)
        assert seconds < 5, f"{name}: {seconds:.1f} s"


def test_earlier_blocks_keep_their_nodes(page: Page) -> None:
    kept = page.evaluate("""async () => {
      const { MarkdownView } = await import("/page/markdown.js");
      const place = document.createElement("div");
      const view = new MarkdownView(place);
      view.update("one\\n\\ntwo");
      const first = place.firstChild;
      view.update("one\\n\\ntwo and\\n\\n- three");
      return [place.firstChild === first, place.children.length, place.textContent];
    }""")
    assert kept == [True, 3, "onetwo andthree"]


def test_code_keeps_its_text(page: Page) -> None:
    """Coloured or not: what is copied is what was written."""
    codes = {
        "python": 'def f(x):\n    """a # b"""\n    return f"{x}" + \'open\n  # end 1_000',
        "bash": 'if [ $# -gt 1 ]; then echo "a # b" # c\nfi',
        "rust": "fn f<'a>(x: &'a str) -> char { 'x' } // <b>",
        "sql": "SELECT a -- b\nFROM t WHERE c = 'd''e'",
        "json": '{"a": [1, true, null]}',
        "unknown": "if x: # y",
    }
    drawn = page.evaluate(
        """async (codes) => {
      const { highlight } = await import("/page/highlight.js");
      return Object.entries(codes).map(([language, code]) => {
        const place = document.createElement("pre");
        place.append(...highlight(code, language));
        const found = (kind) => [...place.querySelectorAll(`.code-${kind}`)];
        const words = (kind) => found(kind).map((element) => element.textContent);
        return [place.textContent, words("keyword"), words("comment"), words("number")];
      });
    }""",
        codes,
    )
    assert [text for text, *_ in drawn] == list(codes.values())
    python, bash, rust, sql, json, unknown = (found for _, *found in drawn)
    assert python == [["def", "return"], ["# end 1_000"], []]
    assert bash == [["if", "then", "fi"], ["# c"], ["1"]]
    assert rust == [["fn", "char"], ["// <b>"], []]
    assert sql == [["SELECT", "FROM", "WHERE"], ["-- b"], []]
    assert json == [["true", "null"], [], ["1"]]
    assert unknown == [[], [], []]
