"""Turns whatever goes wrong into OpenAI's error object: a status, a type, and a sentence."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from ingot.errors import EngineDead, IngotError, QueueFull, RequestError

log = logging.getLogger(__name__)

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    501: "not_implemented_error",
    503: "service_unavailable_error",
}
# What FastAPI says of a body that its JSON reader raised anything but a JSON error on.
UNREADABLE = "There was an error parsing the body"


class ErrorDetail(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    error: ErrorDetail


class ApiError(Exception):
    """An answer other than 200, raised anywhere between the socket and the engine."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> ErrorBody:
        kind = TYPES.get(self.status, "server_error")
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, headers=self.headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)


def as_api_error(error: Exception) -> ApiError:
    """What a client is told about an error of the engine or of our own."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        wait = str(max(1, math.ceil(error.retry_after_s)))
        return ApiError(429, error.message, code="queue_full", headers={"Retry-After": wait})
    if isinstance(error, EngineDead):
        return ApiError(500, f"the engine failed: {error.message}", code="engine_failed")
    if isinstance(error, RequestError):
        return bad_request(str(error))
    if isinstance(error, IngotError):
        return ApiError(500, str(error))
    log.error("an error of the server itself", exc_info=error)
    return ApiError(500, "the server failed; its log says why", code="internal_error")


def describe_location(location: Sequence[Any]) -> str:
    """`("body", "messages", 0, "role")` as `messages[0].role`."""
    path = ""
    for part in location[1:] if location[:1] == ("body",) else location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def describe_validation(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The first error as a sentence, and the field that it is about."""
    first = errors[0]
    kind, message = first["type"], str(first["msg"])
    if kind == "json_invalid":
        reason = first.get("ctx", {}).get("error", message)
        return f"the body is not JSON: {reason} at character {first['loc'][-1]}", None
    if kind == "value":
        return f"the body can't be taken: {message}", None
    path = describe_location(tuple(first["loc"]))
    if not path:
        return "the body is empty or not a JSON object sent as application/json", None
    if kind == "extra_forbidden":
        return f"{path} is not a parameter of this request", path
    if kind == "missing":
        return f"{path} is missing", path
    return f"{path}: {message[:1].lower()}{message[1:]}", path


async def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    return as_api_error(error).response()


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    message, param = describe_validation(error.errors())
    return bad_request(message, param).response()


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = f"there is no {request.url.path} on this server"
    elif message == UNREADABLE:
        message = "the body is not JSON in UTF-8, or is nested too deeply"
    elif error.status_code == 405:
        message = f"{request.url.path} does not take {request.method}"
    return ApiError(error.status_code, message, headers=error.headers).response()


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(IngotError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_api_error)
