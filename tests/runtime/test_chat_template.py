"""Templates render as in transformers, and can't leave the sandbox."""

from datetime import datetime
from typing import Any

import pytest

from ingot.errors import RequestError
from ingot.runtime.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<b>"}]


def render(source: str, messages: Any = MESSAGES, **variables: Any) -> str:
    now = datetime(2024, 2, 29, 12, 0)
    template = ChatTemplate(source, {"bos_token": "<s>"}, now=lambda: now)
    return template.render(messages, **variables)


def test_blocks_leave_no_blank_lines() -> None:
    source = (
        "{{ bos_token }}\n{% for m in messages %}\n  {% if m.role == 'user' %}\n"
        "U {{ m.content }}\n  {% endif %}\n{% endfor %}\n"
    )
    assert render(source) == "<s>\nU hi\n"


def test_names_that_templates_use() -> None:
    assert render("{{ strftime_now('%d %b %Y') }}") == "29 Feb 2024"
    assert render("{{ messages | tojson }}").endswith('"content": "<b>"}]')
    assert render("{{ {'a': 'é'} | tojson(indent=1) }}") == '{\n "a": "é"\n}'
    assert (
        render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")
        == "01"
    )
    assert render("{% generation %}said{% endgeneration %}.") == "said."
    assert render("{{ tools is none }} {{ thinking }}", thinking=False) == "True False"
    assert render("{{ add_generation_prompt }}", add_generation_prompt=False) == "False"
    assert render("{% set ns = namespace(x=1) %}{% set ns.x = 2 %}{{ ns.x }}") == "2"


def test_the_template_may_refuse() -> None:
    with pytest.raises(RequestError, match="refused the messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    with pytest.raises(RequestError):
        render(source)


def test_broken_template() -> None:
    with pytest.raises(RequestError, match="the chat template is broken"):
        render("{% for %}")


@pytest.mark.parametrize("messages", [[], ["hi"], [{"content": "hi"}], [{"role": 3}]])
def test_wrong_messages(messages: Any) -> None:
    with pytest.raises(RequestError, match="message"):
        render("", messages)


def test_same_as_transformers(tmp_path: Any) -> None:
    chat = pytest.importorskip("transformers.utils.chat_template_utils")
    source = (
        "{{ bos_token }}{% for m in messages %}\n<|{{ m['role'] }}|>\n{{ m['content'] | trim }}\n"
        "{% endfor %}\n{%- if add_generation_prompt %}<|assistant|>{% endif %}{{ m | default(1) }}"
    )
    expected, _ = chat.render_jinja_template(
        [MESSAGES], chat_template=source, add_generation_prompt=True, bos_token="<s>"
    )
    assert render(source) == expected[0]
