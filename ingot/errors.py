"""Turns a user's mistake into one message: what happened, the value, what is allowed, and a hint.

`assert` is for our own bugs; everything that a user, a file or a machine can cause raises one of
these. The CLI prints them without a traceback.
"""


class IngotError(Exception):
    """A mistake that the user can mend. `str()` is the message, then the hint if any."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


class UsageError(IngotError):
    """An option or argument that makes no sense: exit status 2."""


class ModelError(IngotError):
    """A model reference or its configuration can't be used."""


class CheckpointError(ModelError):
    """The weights of a model are missing, broken or of another shape."""


class UnsupportedModelError(ModelError):
    """The model's code has a construct that Ingot can't import."""


class CompileError(IngotError):
    """A stage of the compiler refused its input."""


class ProofError(CompileError):
    """Compiled and eager differ by more than the scheme's bound."""


class ArtifactError(IngotError):
    """An artifact can't be read or written."""


class ArtifactVersionError(ArtifactError):
    """The artifact was written with another schema or another TVM."""


class ArtifactTargetError(ArtifactError):
    """The artifact is for another kind of machine."""


class ArtifactCorruptError(ArtifactError):
    """A file of the artifact is missing, truncated or altered."""

    def __init__(
        self, message: str, hint: str = "copy the artifact's folder again, whole, or compile again"
    ) -> None:
        super().__init__(message, hint)


class RequestError(IngotError):
    """A request that the engine can't accept: empty, too long, bad sampling parameters."""


class QueueFull(IngotError):
    """The engine has as many waiting requests as it may; try again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.args = (message, retry_after_s)  # what a copy from another process is made of
        self.retry_after_s = retry_after_s


class EngineDead(IngotError):
    """The engine ended, by itself or by `close`, and with it the request."""


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """What is wrong with a file that can't be read, without a number."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return error.strerror or str(error)
