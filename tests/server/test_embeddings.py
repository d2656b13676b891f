"""`/v1/embeddings` over a scripted engine: forms of the input and of the vectors, and refusals."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from ingot.errors import UsageError
from ingot.runtime.server.settings import ServerSettings
from tests.runtime.toy_artifact import toy_manifest
from tests.server.conftest import CONTEXT, FakeEngine, RunningServer, Serve, read_error


def ask(server: RunningServer, input_: Any, **fields: Any) -> httpx.Response:
    return server.client.post(
        "/v1/embeddings", json={"model": "toy", "input": input_, "normalize": False, **fields}
    )


def vectors(response: httpx.Response) -> list[list[float]]:
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [each["index"] for each in data] == list(range(len(data)))
    return [each["embedding"] for each in data]


@pytest.mark.parametrize(
    ("input_", "expected"),
    [
        ([3, 5, 7], [[7, 3]]),
        ([[3, 5, 7], [9]], [[7, 3], [9, 1]]),
    ],
)
def test_token_ids(server: RunningServer, input_: Any, expected: list[list[float]]) -> None:
    assert vectors(ask(server, input_)) == expected


def test_texts(server: RunningServer) -> None:
    tokenizer = server.engine.tokenizer
    texts = ["def f(", "class A:"]
    expected = [[float(ids[-1]), len(ids)] for ids in map(tokenizer.encode, texts)]
    assert vectors(ask(server, texts)) == expected
    assert vectors(ask(server, texts[0])) == expected[:1]


def test_the_answer_is_openais(server: RunningServer) -> None:
    response = ask(server, [[3, 5, 7], [9]], user="someone", encoding_format="float")
    body = response.json()
    assert body.keys() == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", "toy")
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert {each["object"] for each in body["data"]} == {"embedding"}
    trace = server.client.get(f"/v1/requests/{response.headers['x-request-id']}").json()
    assert trace["state"] == "finished" and len(trace["outputs"]) == 2


def test_base64(server: RunningServer) -> None:
    (written,) = vectors(ask(server, [3, 5, 7], encoding_format="base64"))
    assert np.frombuffer(base64.b64decode(written), "<f4").tolist() == [7, 3]  # type: ignore[arg-type]


def test_length_and_dimensions(server: RunningServer) -> None:
    np.testing.assert_allclose(
        vectors(ask(server, [1, 2, 3, 4], normalize=None)), [[2**-0.5, 2**-0.5]], rtol=1e-6
    )
    assert vectors(ask(server, [1, 2, 3, 5], normalize=True, dimensions=1)) == [[1]]


@pytest.mark.parametrize("dimensions", [3, 10**6])
def test_more_dimensions_than_there_are(server: RunningServer, dimensions: int) -> None:
    """The manifest's width is of the layers; a model may end in a narrower projection."""
    response = ask(server, [1], dimensions=dimensions)
    assert response.status_code == 400
    assert f"dimensions is {dimensions}" in read_error(response)


def test_pooling_of_the_server_and_of_the_request(serve: Serve) -> None:
    server = serve(pooling="mean")
    assert vectors(ask(server, [3, 5, 7])) == [[5, 3]]
    assert vectors(ask(server, [3, 5, 7], pooling="last")) == [[7, 3]]
    with pytest.raises(UsageError, match="pooling is 'max'; it is one of mean, last"):
        ServerSettings(pooling="max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"input": ""}, "the prompt is empty"),
        ({"input": []}, "a text, a list of texts"),
        ({"input": [10**6]}, "a token outside 0 to"),
        ({"input": [1] * (CONTEXT + 1)}, f"the model's context holds {CONTEXT}"),
        ({"input": [[1]] * 129}, "there are 129 prompts; this server takes 128"),
        ({"input": "a", "pooling": "max"}, "'mean' or 'last'"),
        ({"input": "a", "dimensions": 0}, "greater than or equal to 1"),
        ({"input": "a", "encoding_format": "int8"}, "'float' or 'base64'"),
        ({"input": "a", "stream": True}, "stream"),
    ],
)
def test_refusals(server: RunningServer, fields: dict[str, Any], sentence: str) -> None:
    response = server.client.post("/v1/embeddings", json={"model": "toy", **fields})
    assert response.status_code == 400
    assert sentence in read_error(response)


def test_an_artifact_without_embeddings(serve: Serve) -> None:
    engine = FakeEngine()
    step = {**engine.model_info.step.model_dump(), "functions": {}}
    engine.model_info = toy_manifest(step=step)
    response = ask(serve(engine), "a")
    assert response.status_code == 501
    assert "compile the model again" in read_error(response)
    assert response.json()["error"]["code"] == "no_embeddings"


def test_a_request_whose_time_is_over(serve: Serve) -> None:
    response = ask(serve(FakeEngine(times_out=True)), "a")
    assert response.status_code == 408


def test_an_engine_that_died(serve: Serve) -> None:
    server = serve(FakeEngine(failure="it crashed"))
    assert ask(server, "a").status_code == 500
