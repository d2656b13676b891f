"""The application as a whole: it offers what the document lists, and refuses odd settings."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingot.errors import UsageError
from ingot.runtime.server.app import create_state, read_generation_config
from ingot.runtime.server.plain_template import PLAIN_TEMPLATE, read_template
from ingot.runtime.server.sampling import read_defaults
from ingot.runtime.server.settings import ServerSettings
from ingot.runtime.server.tool_formats import FORMATS
from tests.server.conftest import FakeEngine, RunningServer, Serve

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/serving.md").read_text(encoding="utf-8")


def test_every_endpoint_is_described(server: RunningServer) -> None:
    for path, methods in server.client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in DOCUMENT


def test_every_field_is_described(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    for path, method in (("completions", "post"), ("chat/completions", "post"), ("engine", "get")):
        answer = document["paths"][f"/v1/{path}"][method]["responses"]["200"]
        assert set(answer["content"]) == {"application/json", "text/event-stream"}
    schemas = document["components"]["schemas"]
    for name in ("CompletionBody", "ChatBody"):
        for field in schemas[name]["properties"].keys() - {"model", "prompt", "messages"}:
            assert f"`{field}`" in DOCUMENT or f"`{field}." in DOCUMENT, field


def test_every_metric_is_described(server: RunningServer) -> None:
    server.complete()
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        if family.name.endswith("_created"):
            continue  # the library's own, beside each of ours
        assert re.search(rf"`{family.name}(_total)?[`{{]", DOCUMENT), family.name


def test_every_tool_parser_is_described() -> None:
    for name in FORMATS:
        assert f"| `{name}` |" in DOCUMENT


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tool_parser": "morse"}, "the tool parser is 'morse'"),
        ({"chat_template": "{% for %}"}, "chat template is broken"),
        ({"cors_origins": ("a.example",)}, "the CORS origin is 'a.example'"),
        ({"max_choices": 0}, "max_choices is 0"),
        ({"drain_s": -1.0}, "drain_s is -1.0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        create_state(FakeEngine(), ServerSettings(**settings), {})  # type: ignore[arg-type]


def test_defaults_are_those_of_the_models_makers() -> None:
    assert read_defaults({}) == {"temperature": 1.0}
    assert read_defaults({"do_sample": False, "temperature": 0.3}) == {"temperature": 0.0}
    config = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "eos_token_id": 2}
    assert read_defaults(config) == {"temperature": 0.7, "top_p": 0.8, "top_k": 20}


def test_a_generation_config_is_optional_and_json(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path) == {}
    file = tmp_path / "generation_config.json"
    file.write_text('{"temperature": 0.5}')
    assert read_generation_config(tmp_path) == {"temperature": 0.5}
    file.write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        read_generation_config(tmp_path)


def test_the_plain_template(serve: Serve, tmp_path: Path) -> None:
    server = serve(chat_template=read_template("plain"))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    body = {"model": "toy", "messages": messages}
    assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    prompt = server.engine.tokenizer.decode(server.engine.asked[0][0])
    assert prompt == "System: Be brief.\n\nUser: Hi\n\nAssistant:"
    (tmp_path / "own.jinja").write_text("x")
    assert read_template(str(tmp_path / "own.jinja")) == "x" != PLAIN_TEMPLATE
    with pytest.raises(UsageError, match="absent can't be read: No such file or directory\n"):
        read_template(str(tmp_path / "absent"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="bytes can't be read: it is not text in UTF-8\n"):
        read_template(str(tmp_path / "bytes"))
