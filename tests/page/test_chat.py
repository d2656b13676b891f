"""The conversation in a browser: streaming, stopping, editing, keeping, and hostile text."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.page.fake_server import FakeState


def ask(page: Page, text: str) -> Locator:
    """Send a message and wait for the whole answer."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Model").last
    expect(answer.get_by_role("button", name="Answer again")).to_be_visible()
    return answer


def test_answer_is_streamed_and_drawn(page: Page, state: FakeState) -> None:
    answer = ask(page, "markdown")
    expect(answer.locator("h3")).to_have_text("A title")
    expect(answer.locator("strong").first).to_have_text("bold")
    expect(answer.locator("ol > li")).to_have_count(2)
    expect(answer.locator("ol ul > li")).to_have_text("nested")
    expect(answer.locator("td.align-right")).to_have_text(["1", "2 | 3"])
    expect(answer.locator("blockquote")).to_have_text("A quote")
    expect(answer.locator("pre code")).to_have_text("def add(a, b):\n    return a + b")
    link = answer.get_by_role("link", name="a link")
    expect(link).to_have_attribute("href", "https://example.org/a")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(answer.locator(".stats")).to_contain_text("tokens")
    (sent,) = state.requests
    assert sent["messages"] == [{"role": "user", "content": "markdown"}]
    assert sent["stream"] and sent["stream_options"] == {"include_usage": True}
    assert sent["logprobs"] is True and sent["top_logprobs"] == 5


def test_a_thought_is_folded_and_not_sent_back(page: Page, state: FakeState) -> None:
    answer = ask(page, "think")
    fold = answer.locator("details")
    expect(fold.locator("summary")).to_have_text("Thought")
    expect(fold.locator("strong")).to_be_hidden()
    expect(answer.locator(".body > .markdown")).to_have_text("It is 4.")
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(fold.locator("strong")).to_have_text("see")
    ask(page, "more")
    assert state.requests[1]["messages"][1] == {"role": "assistant", "content": "It is 4."}


def test_the_end_of_a_thought_is_found(page: Page) -> None:
    cases = {
        "<": ["", "", False],
        "<think>a": ["a", "", True],
        "\n<think>a</think>\nb": ["a", "b", False],
        "a</think>b": ["a", "b", False],  # the template has begun it
        "plain < text": ["", "plain < text", False],
    }
    for text, expected in cases.items():
        found = page.evaluate(
            """async (text) => {
              const { splitThought } = await import("/page/thought.js");
              const { thought, answer, isThinking } = splitThought(text);
              return [thought, answer, isThinking];
            }""",
            text,
        )
        assert found == expected, text


def test_hostile_text_stays_text(page: Page) -> None:
    answer = ask(page, "attack")
    expect(answer).to_contain_text("<script>window.attacked = 1</script><img src=x onerror=")
    assert answer.locator("img, script, iframe").count() == 0
    assert answer.locator("a").evaluate_all("links => links.map(a => a.protocol)") == ["https:"]
    ask(page, "<img src=x onerror='window.attacked = 1'>")
    page.get_by_role("button", name="Show token probabilities").last.click()
    page.locator(".token").first.hover()
    page.reload()
    expect(page.get_by_role("article")).to_have_count(4)
    assert page.evaluate("'attacked' in window") is False
    assert page.locator("#messages img, #sidebar img:not(.brand img)").count() == 0


def test_stop_ends_the_request(page: Page, state: FakeState) -> None:
    page.get_by_label("Message", exact=True).fill("forever")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("You said forever")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_role("article", name="Model")).to_contain_text("stopped")
    for _ in range(1500):  # half a minute, for a machine with other work
        if state.disconnects:
            break
        page.wait_for_timeout(20)
    assert state.disconnects == 1


def test_regenerate_replaces_the_answer(page: Page, state: FakeState) -> None:
    answer = ask(page, "hello")
    expect(answer).to_contain_text("turn 1")
    answer.get_by_role("button", name="Answer again").click()
    expect(page.get_by_role("article", name="Model")).to_contain_text("turn 2")
    expect(page.get_by_role("article")).to_have_count(2)
    assert state.requests[0]["messages"] == state.requests[1]["messages"]


def test_an_edited_question_is_asked_again(page: Page, state: FakeState) -> None:
    ask(page, "first")
    ask(page, "second")
    question = page.get_by_role("article", name="You").first
    question.hover()
    question.get_by_role("button", name="Edit and ask again").click()
    page.get_by_label("Edit the message").fill("other")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article", name="Model")).to_contain_text("You said other")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    assert [message["content"] for message in state.requests[-1]["messages"]] == ["other"]


def test_settings_reach_the_request(page: Page, state: FakeState) -> None:
    page.keyboard.press("Alt+s")
    page.get_by_label("System prompt").fill("Be brief.")
    for label, value in {
        "Temperature": "0.25",
        "Top p": "0.9",
        "Top k": "40",
        "Min p": "0.05",
        "Repetition penalty": "1.1",
        "Max tokens": "77",
        "Seed": "7",
    }.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("Stop", exact=True).last.fill("END\n\\n\\n")
    page.get_by_label("Ask for token probabilities").uncheck()
    ask(page, "hello")
    (sent,) = state.requests
    expected = {
        "temperature": 0.25,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "max_tokens": 77,
        "seed": 7,
        "stop": ["END", "\n\n"],
    }
    assert {name: sent[name] for name in expected} == expected
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "logprobs" not in sent
    page.reload()
    expect(page.get_by_role("article")).to_have_count(2)
    page.keyboard.press("Alt+s")
    expect(page.get_by_label("Seed")).to_have_value("7")
    expect(page.get_by_label("System prompt")).to_have_value("Be brief.")
    page.get_by_label("Temperature").fill("9")  # out of range: the old value comes back
    page.get_by_label("Seed").focus()
    expect(page.get_by_label("Temperature")).to_have_value("0.25")


def test_conversations_are_kept_renamed_exported_and_deleted(page: Page, tmp_path: Path) -> None:
    ask(page, "one")
    page.keyboard.press("Alt+n")
    ask(page, "two")
    page.reload()
    kept = page.get_by_role("list", name="Conversations").get_by_role("link")
    expect(kept).to_have_text(["two", "one"])
    kept.last.click()
    expect(page.get_by_role("article", name="You")).to_have_text("one")
    page.get_by_role("button", name="one", exact=True).click()
    page.get_by_label("Name").fill("a name")
    page.keyboard.press("Enter")
    expect(kept).to_have_text(["two", "a name"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as JSON").click()
    assert download.value.suggested_filename == "a-name.json"
    download.value.save_as(tmp_path / "export.json")
    exported = json.loads((tmp_path / "export.json").read_text())
    assert [message["role"] for message in exported["messages"]] == ["user", "assistant"]
    page.get_by_role("button", name="Delete this conversation").click()
    expect(kept).to_have_text(["two"])
    page.get_by_role("button", name="Undo").click()
    expect(kept).to_have_text(["two", "a name"])


def test_answer_goes_on_while_another_conversation_is_shown(page: Page) -> None:
    page.get_by_label("Message", exact=True).fill("forever")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("You said forever")
    page.keyboard.press("Alt+n")
    expect(page.get_by_role("article")).to_have_count(0)
    ask(page, "meanwhile")
    page.get_by_role("list", name="Conversations").get_by_role("link", name="forever").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("article", name="Model")).to_contain_text("stopped")


def test_key_is_asked_for_and_kept_in_the_tab(page: Page, state: FakeState) -> None:
    state.key = "secret"
    page.reload()
    for wrong, text in (("nonsense", "asks for a key"), ("secret", "didn't take that key")):
        expect(page.get_by_role("dialog")).to_contain_text(text)
        page.get_by_label("Key", exact=True).fill(wrong)
        page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    ask(page, "hello")
    assert page.evaluate("Object.values(localStorage).join().includes('secret')") is False


@pytest.mark.parametrize(
    ("status", "message", "headers", "shown"),
    [
        (400, "temperature is -1", {}, "temperature is -1"),
        (429, "The queue is full.", {"Retry-After": "3"}, "full. Try again in 3 s."),
        (503, "The server is stopping.", {}, "The server is stopping."),
    ],
)
def test_refusals_are_shown(
    page: Page, state: FakeState, status: int, message: str, headers: dict[str, str], shown: str
) -> None:
    state.refuse = (status, message, headers)
    answer = ask(page, "hello")
    expect(answer.get_by_role("alert")).to_contain_text(shown)
    state.refuse = None
    answer.get_by_role("button", name="Answer again").click()
    expect(page.get_by_role("article", name="Model")).to_contain_text("You said hello")


def test_a_server_that_is_gone_is_said_in_words(page: Page) -> None:
    page.context.set_offline(True)
    expect(ask(page, "hello").get_by_role("alert")).to_contain_text("can't be reached")


def test_a_conversation_deleted_while_it_is_answered_stays_deleted(page: Page) -> None:
    page.get_by_label("Message", exact=True).fill("forever")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Model")).to_contain_text("You said forever")
    page.get_by_role("button", name="Delete this conversation").click()
    expect(page.get_by_text("None yet")).to_be_visible()
    page.wait_for_timeout(300)
    page.reload()
    expect(page.get_by_text("None yet")).to_be_visible()


def test_a_failed_answer_is_not_sent_along(page: Page, state: FakeState) -> None:
    state.refuse = (503, "later", {})
    ask(page, "first")
    state.refuse = None
    ask(page, "second")
    sent = state.requests[-1]["messages"]
    assert [message["content"] for message in sent] == ["first", "second"]
