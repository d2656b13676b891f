"""What the server says of itself: models, tokens, metrics, the engine's state, traces, health."""

import json

from prometheus_client.parser import text_string_to_metric_families

from ingot.runtime.server.recent import Recent, percentiles
from ingot.runtime.server.traces import Trace, TraceStore
from tests.server.conftest import FakeEngine, RunningServer, Serve, read_error


def read_metrics(server: RunningServer) -> dict[str, float]:
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {
        sample.name + "".join(f" {v}" for v in sample.labels.values()): sample.value
        for sample in samples
    }


def test_metrics_count_what_happened(serve: Serve) -> None:
    server = serve()
    server.complete(n=2)
    server.complete(prompt="")
    server.client.get("/v2")
    found = read_metrics(server)
    assert found["ingot_http_requests_total /v1/completions 200"] == 1
    assert found["ingot_http_requests_total /v1/completions 400"] == 1
    assert found["ingot_http_requests_total none 404"] == 1
    assert found["ingot_requests_finished_total stop"] == 2
    assert found["ingot_ttft_seconds_count"] == found["ingot_tpot_seconds_count"] == 2
    assert found["ingot_ttft_seconds_sum"] == 0.2
    assert found["ingot_itl_seconds_count"] >= 4
    assert found["ingot_kv_usage_ratio"] == 0.5 and found["ingot_engine_healthy"] == 1
    assert found["ingot_kv_pages_cached"] == 1 and found["ingot_preemptions_total"] == 0


def test_the_engine_view_shows_the_pages(serve: Serve) -> None:
    server = serve(FakeEngine("word " * 100, delay_s=0.02))
    body = {"model": "toy", "prompt": "a", "max_tokens": 50, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        view = server.client.get("/v1/engine").json()
    assert view["pages"] == "fasc" and view["num_pages"] == 4
    assert view["status"] == "ok" and view["model"] == "toy"
    (request,) = view["requests"]
    assert request["state"] == "running" and request["num_output_tokens"] >= 1
    assert view["output_tokens_per_s"] > 0


def test_the_engine_view_streams(server: RunningServer) -> None:
    with server.client.stream("GET", "/v1/engine?stream=true&interval_s=0.1") as response:
        lines = (line for line in response.iter_lines() if line)
        views = [json.loads(next(lines).removeprefix("data: ")) for _ in range(2)]
    assert all(view["pages"] == "fasc" for view in views)
    assert server.client.get("/v1/engine?interval_s=nan").status_code == 400


def test_a_trace_says_where_the_time_went(server: RunningServer) -> None:
    request_id = server.complete(n=2).json()["id"]
    trace = server.client.get(f"/v1/requests/{request_id}").json()
    assert trace["state"] == "finished" and trace["endpoint"] == "completions"
    assert [output["index"] for output in trace["outputs"]] == [0, 1]
    assert trace["outputs"][0]["queue_s"] == 0.02 and trace["outputs"][0]["prefill_s"] == 0.08
    assert trace["outputs"][0]["num_prefix_hit_tokens"] == 3
    assert trace["outputs"][0]["num_accepted_tokens"] == 2
    assert "key_name" not in trace
    assert "no request 'x'" in read_error(server.client.get("/v1/requests/x"))


def test_traces_are_bounded() -> None:
    store = TraceStore(2)
    for name in "abc":
        store.add(Trace(name, "chat", "", 1, 1))
    assert list(store._traces) == ["b", "c"]


def test_texts_become_tokens_and_come_back(server: RunningServer) -> None:
    post = server.client.post
    found = post("/tokenize", json={"prompt": "héllo", "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert found["max_model_len"] == 512
    back = post("/detokenize", json={"tokens": found["tokens"]}).json()
    assert back == {"prompt": "héllo"}
    chat = post("/tokenize", json={"messages": [{"role": "user", "content": "hi"}]}).json()
    assert chat["count"] > 1
    assert "one of" in read_error(post("/tokenize", json={}))
    assert "tokens[1]" in read_error(post("/detokenize", json={"tokens": [1, 10**6]}))


def test_models_are_listed_under_each_name(serve: Serve) -> None:
    server = serve(model_names=("org/a", "b"))
    listed = server.client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["org/a", "b"]
    assert server.client.get("/v1/models/org/a").json() == listed[0]
    assert listed[0]["max_context_tokens"] == 512
    assert server.complete(model="b").json()["model"] == "b"
    assert server.complete(model="toy").status_code == 404


def test_the_api_is_described(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    assert {"/v1/completions", "/v1/chat/completions", "/v1/models", "/metrics"} <= set(
        document["paths"]
    )


def test_recent_figures_forget() -> None:
    now = [0.0]
    recent = Recent(lambda: now[0])
    recent.add_tokens(10)
    now[0] = 1.0
    recent.add_tokens(5)
    assert recent.output_tokens_per_s == 3
    now[0] = 5.5
    assert recent.output_tokens_per_s == 1
    assert recent.ttft_percentiles() is None
    assert percentiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p95": 3.0}
