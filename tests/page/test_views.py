"""Completion, tokens, engine, keyboard, themes and narrow windows, in a browser."""

import pytest
from playwright.sync_api import Page, expect

from tests.page.fake_server import FakeState


def complete(page: Page, text: str = "def fibonacci(n):\n") -> None:
    page.keyboard.press("Alt+2")
    page.get_by_label("Text to go on with").fill(text)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Write again")).to_be_visible()


def test_completion_follows_the_text_and_can_be_kept(page: Page, state: FakeState) -> None:
    complete(page)
    output = page.get_by_label("The model's text")
    expect(output.locator("pre")).to_have_text("    if n < 2:\n        return n\n    return 1")
    assert state.requests[0]["prompt"] == "def fibonacci(n):\n"
    assert state.requests[0]["logprobs"] == 5
    page.get_by_role("button", name="Keep").click()
    expect(output).to_be_hidden()
    text = page.get_by_label("Text to go on with")
    assert text.input_value().endswith("return 1")
    page.reload()
    assert text.input_value().endswith("return 1")


def test_a_base_model_starts_with_completion(page: Page, state: FakeState, url: str) -> None:
    state.has_chat_template = False
    page.goto("about:blank")
    page.goto(url)
    expect(page.get_by_label("Text to go on with")).to_be_visible()
    page.get_by_role("button", name="class Stack:").click()
    assert page.get_by_label("Text to go on with").input_value().startswith("class Stack:\n")


def test_tokens_show_probability_and_alternatives(page: Page) -> None:
    complete(page)
    page.keyboard.press("Alt+p")
    tokens = page.get_by_role("group", name="Tokens").get_by_role("button")
    expect(tokens.first).to_have_class("token s0")
    expect(tokens.nth(4)).to_have_class("token s4")
    tokens.nth(4).hover()
    card = page.get_by_role("tooltip")
    expect(card).to_contain_text("5.0%")
    expect(card.locator("li")).to_have_text(["other57%", "·word28%", "·n5.0%"])
    expect(card.locator("li.chosen")).to_have_text("·n5.0%")
    page.keyboard.press("Alt+p")  # the token goes, and its card with it
    expect(card).to_be_hidden()
    page.keyboard.press("Alt+p")
    # the same by keyboard: one tab stop, arrows between tokens
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(card).to_contain_text("70%")
    expect(tokens.nth(1)).to_have_attribute("aria-label", "·, 70%")
    page.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    page.keyboard.press("Tab")
    expect(card).to_be_hidden()


def test_engine_view_follows_the_engine(page: Page, state: FakeState) -> None:
    page.keyboard.press("Alt+3")
    expect(page.get_by_role("img", name="12 pages shared, 60 pages cached")).to_be_visible()
    tile = page.locator(".tile", has_text="Output")
    expect(tile.locator("strong")).not_to_have_text("–")
    expect(page.locator(".tile", has_text="Drafts accepted")).to_contain_text("63 %")
    expect(page.get_by_role("row")).to_have_count(4)
    page.locator("canvas").hover(position={"x": 5, "y": 5})
    expect(page.get_by_text("Page 0: active, held by one request")).to_be_visible()
    page.keyboard.press("Alt+1")
    page.wait_for_timeout(100)
    asked = state.snapshots
    page.wait_for_timeout(1200)
    assert state.snapshots == asked  # nothing is asked for a view that isn't shown


# Texts with too little contrast (WCAG's 4.5) to the nearest ground that is not transparent.
FAINT_TEXTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return light(colour);
    }
    return 1;
  };
  const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((e) => hasText(e) && e.checkVisibility() && !e.closest(".hidden, .skip, [disabled]"))
    .map((e) => [light(parse(getComputedStyle(e).color)), ground(e), e])
    .map(([a, b, e]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e])
    .filter(([ratio]) => ratio < 4.5)
    .map(([ratio, e]) => `${e.className || e.tagName} ${e.textContent.trim()}: ${ratio}`);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.get_by_label("Message", exact=True).fill("markdown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    page.keyboard.press("Alt+s")
    assert page.evaluate(FAINT_TEXTS) == []
    page.get_by_label("Message", exact=True).fill("weather")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send results")).to_be_visible()
    assert page.evaluate(FAINT_TEXTS) == []
    page.get_by_label("Message", exact=True).fill("markdown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    page.keyboard.press("Alt+p")
    expect(page.locator(".token.s5").first).to_be_visible()
    assert page.evaluate(FAINT_TEXTS) == []
    page.keyboard.press("Alt+3")
    expect(page.get_by_role("row")).to_have_count(4)
    assert page.evaluate(FAINT_TEXTS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_chosen(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    colour = "getComputedStyle(document.body).backgroundColor"
    grounds = {"light": "rgb(250, 249, 247)", "dark": "rgb(24, 23, 21)"}
    assert page.evaluate(colour) == grounds[scheme]
    for chosen in ("light", "dark"):
        page.get_by_role("button", name="Colours").click()
        assert page.evaluate(colour) == grounds[chosen]
    page.reload()
    assert page.evaluate(colour) == grounds["dark"]


def test_phone_has_drawers_and_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_label("Message", exact=True).fill("markdown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert page.evaluate(wide) is False
    # what can't be seen can't be tabbed to
    expect(page.locator("#sidebar")).to_have_js_property("inert", True)
    page.get_by_role("button", name="Views and conversations").click()
    expect(page.get_by_role("button", name="Close the list")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Views and conversations")).to_be_focused()
    page.get_by_role("button", name="Settings", exact=True).click()
    assert page.evaluate(wide) is False
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    for key in ("Alt+2", "Alt+3"):
        page.keyboard.press(key)
        assert page.evaluate(wide) is False


def test_everything_has_a_name_and_text_can_be_read(page: Page) -> None:
    complete(page)
    for key in ("Alt+1", "Alt+3", "Alt+2", "Alt+s"):
        page.keyboard.press(key)
        unnamed = page.evaluate(NAMELESS)
        assert unnamed == [], key
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        pairs = page.evaluate(COLOURS)
        for name, ratio in pairs.items():
            assert ratio >= 4.5, f"{name} in {scheme}: contrast {ratio:.2f}"


def test_shortcuts_are_listed_and_the_skip_link_works(page: Page) -> None:
    page.keyboard.press("Alt+k")
    expect(page.get_by_role("dialog", name="Keyboard")).to_contain_text("Token probabilities")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Skip to the text").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


# Controls that a screen reader would call only by their kind.
NAMELESS = """() => [...document.querySelectorAll("button, a, input, textarea, canvas")]
  .filter((element) => element.checkVisibility() && !element.ariaHidden
    && !element.ariaLabel && !element.textContent.trim() && !element.labels?.length)
  .map((element) => element.outerHTML)"""

# Contrast ratios (WCAG 2) of text on what it stands on.
COLOURS = """() => {
  const probe = document.body.appendChild(document.createElement("i"));
  const light = (variable) => {
    probe.style.color = `var(${variable})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ratios = {};
  for (const [front, back] of [["ink", "ground"], ["soft", "ground"], ["soft", "sunken"],
      ["soft", "raised"], ["soft", "hover"], ["accent", "ground"], ["accent", "hover"],
      ["on-accent", "accent"], ["wrong", "ground"]]) {
    const [high, low] = [light(`--${front}`), light(`--${back}`)].sort((a, b) => b - a);
    ratios[`${front} on ${back}`] = (high + 0.05) / (low + 0.05);
  }
  probe.remove();
  return ratios;
}"""
