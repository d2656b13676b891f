"""Turns the name of a chat template into its text; `plain` is here, the others are files.

`plain` is for models that have none: each message after the name of its role.

A base model goes on after "Assistant:" and may write the user's next words too; a stop string
ends it there.
"""

from pathlib import Path

from ingot.errors import UsageError, reason_of

PLAIN_NAME = "plain"

PLAIN_TEMPLATE = """\
{%- if tools %}{{ "Tools: " ~ (tools | tojson) ~ "\\n\\n" }}{% endif -%}
{%- for message in messages -%}
{{ message.role | capitalize ~ ": " ~ message.content }}
{%- for call in message.tool_calls or [] %}{{ " " ~ (call.function | tojson) }}{% endfor -%}
{{ "\\n\\n" }}
{%- endfor -%}
{%- if add_generation_prompt %}Assistant:{% endif -%}
"""


def read_template(name: str) -> str:
    if name == PLAIN_NAME:
        return PLAIN_TEMPLATE
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the chat template {name} can't be read: {reason_of(error)}",
            hint=f"--chat-template takes a file or {PLAIN_NAME}, which is built in",
        ) from None
