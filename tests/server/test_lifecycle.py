"""Draining: new work is refused, running work finishes, or is told that it doesn't."""

import json

from tests.server.conftest import FakeEngine, Serve, read_error
from tests.server.test_sse import LONG, wait_until

BODY = {"model": "toy", "prompt": "a", "max_tokens": 40, "stream": True}


def test_running_requests_finish_and_new_ones_are_refused(serve: Serve) -> None:
    server = serve(FakeEngine(LONG, delay_s=0.03), drain_s=60)
    with server.client.stream("POST", "/v1/completions", json=BODY) as response:
        lines = response.iter_lines()
        next(lines)
        server.drain()
        wait_until(lambda: server.state.lifecycle.is_draining)
        refused = server.complete()
        assert refused.status_code == 503 and "shutting down" in read_error(refused)
        assert refused.headers["retry-after"]
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/health").status_code == 200
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert server.join()


def test_what_takes_too_long_is_told(serve: Serve) -> None:
    server = serve(FakeEngine(LONG, delay_s=0.05), drain_s=0.1)
    body = {**BODY, "max_tokens": 400}
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        server.drain()
        last = json.loads([line for line in lines if line][-1].removeprefix("data: "))
    assert "the engine is closed" in last["error"]["message"]
    assert server.join()


def test_an_idle_server_ends_at_once(serve: Serve) -> None:
    server = serve(drain_s=60)
    server.drain()
    assert server.join(20)
