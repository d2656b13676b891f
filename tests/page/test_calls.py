"""Tool calls in a browser: drawn as they come, answered, sent back, and kept."""

import json
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.page.fake_server import CALLS, OPTIONS, FakeState

TOOLS = [{"name": name, "parameters": {"type": "object"}} for name, _ in CALLS]
CALLED = [
    {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
    for index, (name, arguments) in enumerate(CALLS)
]


def give_tools(page: Page, text: str) -> None:
    page.keyboard.press("Alt+s")
    page.get_by_label("Tools").fill(text)
    page.keyboard.press("Alt+s")


def ask(page: Page, text: str) -> Locator:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Model").last
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    return answer


def test_a_call_is_shown_by_name_and_arguments(page: Page, state: FakeState) -> None:
    give_tools(page, json.dumps(TOOLS))
    answer = ask(page, "weather")
    assert state.requests[0]["tools"] == [{"type": "function", "function": t} for t in TOOLS]
    expect(answer.locator(".body > .markdown")).to_have_text("Let me look.")
    weather = answer.get_by_role("figure", name="Call of get_weather")
    expect(weather.locator("dt")).to_have_text(["city", "days", "options"])
    values = ["Zürich <b>", "[1,2]", json.dumps(OPTIONS, indent=2)]
    expect(weather.locator("dd")).to_have_text(values)
    expect(answer.get_by_role("figure", name="get_time")).to_contain_text("without arguments")
    expect(answer.locator(".stats")).to_contain_text("calls a tool")
    expect(page.locator("#announcer")).to_have_text("The model calls get_weather, get_time")


def test_results_are_sent_back_with_the_calls(page: Page, state: FakeState) -> None:
    answer = ask(page, "weather")
    answer.get_by_label("Result of call 1, get_weather").fill("sunny")
    answer.get_by_label("Result of call 2, get_time").fill("noon")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model").last).to_contain_text("You said noon")
    assert state.requests[1]["messages"] == [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": CALLED},
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    expect(page.get_by_role("article", name="Result of get_time")).to_contain_text("noon")
    expect(answer.locator("form")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("figure")).to_have_count(2)
    expect(page.get_by_role("article", name="Result of get_weather")).to_contain_text("sunny")


def test_what_is_no_list_of_tools_is_not_sent(page: Page, state: FakeState) -> None:
    give_tools(page, "[{")
    field = page.get_by_label("Tools")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "This is not a JSON list of functions, so it isn't sent"
    )
    ask(page, "hello")
    assert "tools" not in state.requests[0]
    give_tools(page, json.dumps({"type": "function", "function": TOOLS[0]}))
    expect(field).to_have_attribute("aria-invalid", "false")
    ask(page, "hello")
    assert state.requests[1]["tools"] == [{"type": "function", "function": TOOLS[0]}]


def test_arguments_that_break_off_are_shown_as_they_are(page: Page) -> None:
    drawn = page.evaluate("""async () => {
      const { CallsView, mergeCalls } = await import("/page/calls.js");
      const view = new CallsView(() => {});
      const calls = [];
      mergeCalls(calls, [{ index: 0, id: "a", function: { name: "f", arguments: '{"x": "<b>' } }]);
      view.update(calls);
      return [view.element.querySelector("pre").textContent, view.element.querySelector("b")];
    }""")
    assert drawn == ['{"x": "<b>', None]


def test_narrow(page: Page, tmp_path: Path) -> None:
    """Nothing is wider than a phone."""
    page.set_viewport_size({"width": 360, "height": 700})
    ask(page, "weather")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.querySelector('#chat-scroll').scrollWidth") <= 360
