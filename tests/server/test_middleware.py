"""What is refused before a route sees it: size, slowness, foreign hosts and origins, no JSON."""

import socket

import pytest

from ingot.runtime.server.middleware import DISCARDED_BYTES
from tests.server.conftest import RunningServer, Serve, read_error
from tests.server.test_sse import wait_until

JSON = {"Content-Type": "application/json"}
TIMEOUT_S = 60  # for a machine with other work; what is there is read at once


def test_large_bodies_are_refused(serve: Serve) -> None:
    server = serve(max_body_bytes=1000)
    response = server.complete(prompt="a" * 1000)
    assert response.status_code == 413 and "1000 bytes" in read_error(response)
    # Without a length, the body is counted as it comes.
    chunks = (b"x" * 100 for _ in range(20))
    assert server.client.post("/v1/completions", content=chunks, headers=JSON).status_code == 413
    assert server.complete().status_code == 200


@pytest.mark.parametrize("num_bytes", [5 << 20, 200 << 20])
def test_the_answer_to_a_large_body_is_heard(serve: Serve, num_bytes: int) -> None:
    """Up to a size the rest is read and thrown away; of a larger one nothing is."""
    server = serve(max_body_bytes=1000, api_keys=("a-long-secret",))
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {num_bytes}\r\n"
    )
    for key, status in (("a-long-secret", b"413"), ("another-secret", b"401")):
        with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as connection:
            connection.sendall(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
            connection.settimeout(TIMEOUT_S)
            if num_bytes <= DISCARDED_BYTES:
                connection.sendall(b"x" * num_bytes)
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 " + status) and answer.endswith(b"}}")


def test_slow_bodies_are_refused(serve: Serve) -> None:
    server = serve(body_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
        )
        connection.settimeout(TIMEOUT_S)
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_clients_that_go_while_they_send_leave_nothing(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.client.base_url.port)) as connection:
        connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        wait_until(lambda: len(server.server.server_state.tasks) == 1)
    wait_until(lambda: not server.server.server_state.tasks)
    assert server.state.lifecycle.num_busy == 0
    assert server.complete().status_code == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty or not a JSON object"),
        (b"{", "is not JSON"),
        (b"[1, 2]", "body"),
        (b"null", "body"),
        (b'"text"', "body"),
        (b"{}", "model is missing"),
        (b'{"model": "\xff\xfe"}', "not JSON in UTF-8"),
        (b"\xef\xbb\xbf{}", ""),
        (b'{"model": "toy", "prompt": ' + b"[" * 100_000, ""),
        (
            b'{"model": "toy", "prompt": "a", "metadata": ' + b'{"a":' * 200 + b"1" + b"}" * 201,
            "64",
        ),
        (b'{"model": "toy", "prompt": "a", "n": ' + b"9" * 5000 + b"}", ""),
        (b'{"model": "toy", "prompt": "a", "temperature": NaN}', ""),
        (b'{"model": "toy", "prompt": "a", "temperature": 1e999}', ""),
        (b'{"model": "toy", "prompt": "a", "temperature": 1' + b"0" * 400 + b"}", ""),
        (b'{"model": "toy", "prompt": "a", "logit_bias": {"1": Infinity}}', "logit_bias"),
        (b'{"model": "toy", "prompt": "a", "timeout_s": NaN}', "timeout_s"),
    ],
)
def test_what_is_no_request_gets_400(server: RunningServer, content: bytes, words: str) -> None:
    response = server.client.post("/v1/completions", content=content, headers=JSON)
    assert response.status_code == 400, response.text
    assert words in read_error(response)


def test_json_is_sent_as_json(server: RunningServer) -> None:
    """A form of a strange page can send text/plain without asking; JSON it can't."""
    content = b'{"model": "toy", "prompt": "a"}'
    for headers in ({}, {"Content-Type": "text/plain"}):
        response = server.client.post("/v1/completions", content=content, headers=headers)
        assert response.status_code == 400 and "application/json" in read_error(response)


def test_unknown_places_and_methods(server: RunningServer) -> None:
    assert "there is no /v2" in read_error(server.client.get("/v2"))
    response = server.client.get("/v1/completions")
    assert response.status_code == 405 and "does not take GET" in read_error(response)
    assert server.client.get("/docs").status_code == 404
    response = server.client.get("/v1/models/other")
    assert response.status_code == 404 and "this server has toy" in read_error(response)
    response = server.complete(model="gpt-4")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_foreign_hosts_are_refused(serve: Serve) -> None:
    server = serve(allowed_hosts=("127.0.0.1", "[::1]"))
    assert server.client.get("/v1/models").status_code == 200
    assert server.client.get("/v1/models", headers={"Host": "[::1]:80"}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example:80", "", "[::1"):
        response = server.client.get("/v1/models", headers={"Host": host})
        assert response.status_code in (400, 421), host


def test_origins_are_let_in_by_name(serve: Serve, server: RunningServer) -> None:
    origin = {"Origin": "https://a.example"}
    asking = {**origin, "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in server.client.get("/health", headers=origin).headers
    assert server.client.options("/v1/completions", headers=asking).status_code == 405
    open_server = serve(cors_origins=("https://a.example",), api_keys=("a-long-key",))
    answer = open_server.client.options("/v1/completions", headers=asking)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    refused = open_server.client.get("/v1/models", headers=origin)
    assert refused.status_code == 401  # a page may read why
    assert refused.headers["access-control-allow-origin"] == "https://a.example"
    other = open_server.client.get("/health", headers={"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers
