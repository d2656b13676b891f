"""What an output must look like: a JSON schema, any JSON object, a pattern, a choice or a grammar.

The kinds are plain data. `matcher` turns them into masks over the vocabulary by llguidance, which
is imported when the first constrained request comes.
"""

from ingot.runtime.constraints.kinds import (
    Choice,
    Constraint,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
)

__all__ = ["Choice", "Constraint", "Grammar", "JsonObject", "JsonSchema", "Regex"]
