"""The page against the real server, with a scripted engine behind it: both speak the same API."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from ingot.runtime.server.plain_template import PLAIN_TEMPLATE
from ingot.runtime.server.settings import ServerSettings
from tests.server.conftest import FakeEngine, RunningServer

TEXT = "def add(a, b):\n    return a + b\n"


@pytest.fixture
def server() -> Iterator[RunningServer]:
    settings = ServerSettings(
        api_keys=("a-long-secret",), chat_template=PLAIN_TEMPLATE, tool_parser="hermes"
    )
    running = RunningServer(FakeEngine(text=TEXT), settings)
    yield running
    running.close()


@pytest.fixture
def url(server: RunningServer) -> str:
    return server.url


@pytest.fixture
def opened(page: Page) -> Page:
    page.get_by_label("Key", exact=True).fill("a-long-secret")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("toy · 512 tokens of context")
    return page


def test_chat_tokens_and_engine(opened: Page, server: RunningServer) -> None:
    page = opened
    page.keyboard.press("Alt+1")
    page.get_by_label("Message", exact=True).fill("hello")
    page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Model")
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    expect(answer).to_contain_text("return a + b")
    num_tokens = len(server.engine.tokenizer.encode(TEXT))
    expect(answer.locator(".stats")).to_contain_text(f"{num_tokens} tokens")
    page.keyboard.press("Alt+p")
    tokens = answer.get_by_role("group", name="Tokens").get_by_role("button")
    expect(tokens).to_have_count(num_tokens)
    assert "".join(tokens.all_text_contents()) == TEXT
    tokens.first.hover()
    expect(page.get_by_role("tooltip").locator("li.chosen")).to_contain_text("61%")
    ((_, params, _),) = server.engine.asked
    assert (params.temperature, params.max_tokens, params.logprobs) == (0.7, 256, 5)

    page.keyboard.press("Alt+3")
    name = "1 pages free, 1 pages active, 1 pages shared, 1 pages cached"
    expect(page.get_by_role("img", name=name)).to_be_visible()
    expect(page.locator(".engine-status")).to_contain_text("4 pages of")


CALL = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": "two"}}</tool_call>'
TOOL = '{"name": "add", "parameters": {"type": "object"}}'


def test_a_tool_is_called_and_answers(opened: Page, server: RunningServer) -> None:
    page = opened
    page.keyboard.press("Alt+1")
    server.engine.text = CALL
    page.keyboard.press("Alt+s")
    page.get_by_label("Tools").fill(TOOL)
    page.get_by_label("Message", exact=True).fill("1 and 2?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("figure", name="Call of add").locator("dd")).to_have_text(["1", "two"])
    server.engine.text = "It is 3."
    page.get_by_label("Result of call 1, add").fill("3")
    page.get_by_role("button", name="Send result").click()
    expect(page.get_by_role("article", name="Model").last).to_contain_text("It is 3.")
    prompt = server.engine.tokenizer.decode(server.engine.asked[1][0])
    assert '{"name": "add", "arguments": ' in prompt and "Tool: 3" in prompt


def test_completion_and_a_refusal(opened: Page, server: RunningServer) -> None:
    page = opened
    page.keyboard.press("Alt+2")
    page.get_by_label("Text to go on with").fill("# adding\n")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Write again")).to_be_visible()
    expect(page.get_by_label("The model's text").locator("pre")).to_have_text(TEXT)
    page.keyboard.press("Alt+p")
    count = len(server.engine.tokenizer.encode(TEXT))
    expect(page.locator("#document .tokens .token")).to_have_count(count)

    page.get_by_label("Text to go on with").fill("word " * 2000)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#document").get_by_role("alert")).to_contain_text("512")


def test_stopping_aborts_the_request(opened: Page, server: RunningServer) -> None:
    page = opened
    server.engine.delay_s = 0.2
    server.engine.text = TEXT * 20
    page.keyboard.press("Alt+1")
    page.get_by_label("Message", exact=True).fill("hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("def")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    for _ in range(100):
        if server.engine.num_aborted:
            break
        page.wait_for_timeout(20)
    assert server.engine.num_aborted == 1
