"""`ingot chat` keeps the conversation, obeys slashes, and survives Ctrl-C and long prompts."""

from typing import Any

from typer.testing import CliRunner, Result

from ingot.cli import app

NOT_GIVEN = {"speculation": None, "draft": None}


def talk(*lines: str, options: tuple[str, ...] = ()) -> Result:
    return CliRunner().invoke(app, ["chat", "folder", *options], input="\n".join(lines) + "\n")


def contents(messages: list[dict[str, str]]) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in messages]


def test_answers_and_remembers(engine: Any) -> None:
    result = talk("one", "", "two")
    assert result.exit_code == 0
    assert result.stdout == " a b\n a b\n"
    assert contents(engine.asked[1][0]) == ["user: one", "assistant:  a b", "user: two"]


def test_reset_and_system(engine: Any) -> None:
    talk("one", "/reset", "two", "/system Be brief.", "three", options=("--system", "Hello."))
    prompts = [contents(prompt) for prompt, _ in engine.asked]
    assert prompts == [
        ["system: Hello.", "user: one"],
        ["system: Hello.", "user: two"],
        ["system: Be brief.", "user: three"],
    ]


def test_exit_ends_and_unknown_commands_get_help(engine: Any) -> None:
    result = talk("/what", "/exit", "never asked")
    assert result.exit_code == 0
    assert result.stderr.count("/reset forgets") == 2
    assert engine.asked == []


def test_interrupt_keeps_what_came(engine: Any) -> None:
    result = talk("interrupt", "more")
    assert "[stopped]" in result.stderr
    assert result.stdout == " a\n a b\n"
    assert contents(engine.asked[1][0])[1] == "assistant:  a"


def test_refused_question_is_not_kept(engine: Any) -> None:
    result = talk("too long", "short")
    assert result.exit_code == 0
    assert "longer than the context" in result.stderr
    assert contents(engine.asked[0][0]) == ["user: short"]


def test_options_reach_the_engine(engine: Any) -> None:
    words = "--temperature 0.7 --max-tokens 9 --stop x --presence-penalty 0.5 --threads 2"
    talk("one", options=tuple(words.split()))
    assert engine.made[0][1] == {**NOT_GIVEN, "num_threads": 2, "max_sequences": 1}
    params = engine.asked[0][1]
    assert (params.temperature, params.max_tokens) == (0.7, 9)
    assert (params.stop, params.presence_penalty) == (("x",), 0.5)
