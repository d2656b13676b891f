"""The engine's face: texts in, texts out, several callers at once, nothing left behind."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ingot.errors import RequestError, UsageError
from ingot.runtime.artifact import Artifact
from ingot.runtime.engine import Engine
from ingot.runtime.sampling_params import SamplingParams

MakeRig = Callable[..., Any]
FIVE = SamplingParams(max_tokens=5, ignore_eos=True)


def words(toy: ModuleType, prompt: list[int], count: int) -> str:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(toy.toy_logits(tokens).argmax()))
    return "".join(f"w{token}" for token in tokens[len(prompt) :])


def test_generate_takes_one_prompt_or_many(make_rig: MakeRig, toy: ModuleType) -> None:
    engine = make_rig().engine
    expected = words(toy, [3, 1], 5)
    assert [done.text for done in engine.generate("w3 w1", FIVE)] == [expected]
    assert [done.text for done in engine.generate([3, 1], FIVE)] == [expected]
    assert [done.text for done in engine.generate(np.array([3, 1]), FIVE)] == [expected]
    both = engine.generate(["w3 w1", [9]], [FIVE, SamplingParams(max_tokens=1, ignore_eos=True)])
    assert [done.text for done in both] == [expected, words(toy, [9], 1)]
    assert engine.generate([]) == []


def test_generate_runs_its_prompts_in_one_batch(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.engine.generate([[1], [2], [3]], FIVE)
    assert [len(inputs.token_ids) for inputs in rig.executor.steps] == [3] * 5


def test_params_of_each_prompt(make_rig: MakeRig) -> None:
    with pytest.raises(RequestError, match="there are 2 prompts and 1 sampling params"):
        make_rig().engine.generate([[1], [2]], [FIVE])


def test_one_bad_prompt_leaves_nothing_behind(make_rig: MakeRig) -> None:
    rig = make_rig()
    with pytest.raises(RequestError, match="empty"):
        rig.engine.generate([[1], []], FIVE)
    assert not rig.engine.has_work
    assert rig.executor.steps == []


@pytest.mark.parametrize("prompt", ["", []])
def test_empty_prompt(make_rig: MakeRig, prompt: Any) -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        make_rig().engine.add_request(prompt)


def test_stream(make_rig: MakeRig, toy: ModuleType) -> None:
    chunks = list(make_rig().engine.stream("w3 w1", FIVE))
    assert "".join(chunk.text for chunk in chunks) == words(toy, [3, 1], 5)
    assert len(chunks) == 5
    assert chunks[-1].stats is not None


def test_leaving_a_stream_frees_its_pages(make_rig: MakeRig) -> None:
    rig = make_rig()
    for _ in rig.engine.stream([3, 1], FIVE):
        break
    assert not rig.engine.has_work
    assert rig.core.pool.num_used == 0


def test_streams_requests_and_generate_side_by_side(make_rig: MakeRig, toy: ModuleType) -> None:
    rig = make_rig()
    engine = rig.engine
    request_id = engine.add_request([7], FIVE)
    one, two = engine.stream([3, 1], FIVE), engine.stream([9], FIVE)
    texts = ["", ""]
    for first, second in zip(one, two, strict=True):
        texts[0] += first.text
        texts[1] += second.text
    assert texts == [words(toy, [3, 1], 5), words(toy, [9], 5)]
    assert engine.generate([[4]], FIVE)[0].text == words(toy, [4], 5)
    assert engine.has_work, "the chunks that nobody has fetched"
    chunks = engine.step()
    assert {chunk.request_id for chunk in chunks} == {request_id}
    assert "".join(chunk.text for chunk in chunks) == words(toy, [7], 5)
    assert not engine.has_work
    assert max(len(inputs.context_lengths) for inputs in rig.executor.steps) == 3


def test_add_step_abort(make_rig: MakeRig) -> None:
    engine = make_rig().engine
    first, second = engine.add_request([1], FIVE), engine.add_request([2], FIVE)
    assert [chunk.request_id for chunk in engine.step()] == [first, second]
    engine.abort(first)
    engine.abort(999)
    chunks = engine.step()
    assert [(c.request_id, c.finish_reason) for c in chunks] == [(first, "abort"), (second, None)]


def test_abort_ends_a_stream(make_rig: MakeRig) -> None:
    engine = make_rig().engine
    reasons = []
    for chunk in engine.stream([1], FIVE):
        engine.abort(chunk.request_id)
        reasons.append(chunk.finish_reason)
    assert reasons == [None, "abort"]


def test_chat(make_rig: MakeRig, toy: ModuleType) -> None:
    engine = make_rig().engine
    messages = [{"role": "user", "content": "w4"}]
    assert engine.encode_chat(messages) == [4, 1]  # the toy template ends with w1
    assert engine.chat(messages, FIVE).text == words(toy, [4, 1], 5)


def test_without_a_tokenizer(make_rig: MakeRig, tmp_path: Path, toy: ModuleType) -> None:
    rig = make_rig()
    folder = tmp_path / "bare"
    folder.mkdir()
    engine = Engine(
        Artifact(folder, toy.toy_manifest(), ()),
        num_pages=8,
        executor=type(rig.executor)(8, toy.PAGE),
    )
    with pytest.raises(RequestError, match="the artifact has no tokenizer"):
        engine.generate("text")
    with pytest.raises(RequestError, match="the artifact has no tokenizer"):
        engine.chat([{"role": "user", "content": "hi"}])
    done = engine.generate([3, 1], SamplingParams(max_tokens=2))[0]
    assert len(done.token_ids) == 2 and done.text == ""


def test_close(make_rig: MakeRig) -> None:
    engine = make_rig().engine
    engine.add_request([1], FIVE)
    with engine:
        engine.step()
    for call in (lambda: engine.generate([1]), engine.step, lambda: engine.add_request([1])):
        with pytest.raises(UsageError, match="the engine is closed"):
            call()
    engine.close()


def test_an_interrupted_generate_leaves_nothing_behind(make_rig: MakeRig) -> None:
    rig = make_rig()

    def interrupt(inputs: Any) -> Any:
        raise KeyboardInterrupt

    rig.executor.step = interrupt
    with pytest.raises(KeyboardInterrupt):
        rig.engine.generate([[1], [2]], FIVE)
    assert not rig.engine.has_work
    rig.core.check_integrity()


@pytest.mark.parametrize(
    "wishes", [{"max_sequences": 0}, {"max_sequences": 9, "max_step_tokens": 8}]
)
def test_refused_sizes(make_rig: MakeRig, wishes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="max_sequences is .*; it is 1 to max_step_tokens"):
        make_rig(**wishes)


def test_a_compiled_artifact(toy_folder: Path, toy: ModuleType) -> None:
    with Engine(toy_folder, num_pages=7, max_step_tokens=20, max_sequences=4) as engine:
        prompts = [[5] * 33, [7, 8], [9] * 17, [1]]
        done = engine.generate(prompts, SamplingParams(max_tokens=20, ignore_eos=True, logprobs=1))
        assert [d.text for d in done] == [words(toy, prompt, 20) for prompt in prompts]
        assert engine.counters.num_preemptions > 0
        assert done[0].logprobs[0].top[0][0] == done[0].token_ids[0]


def test_two_engines_of_one_artifact(toy_folder: Path, toy: ModuleType) -> None:
    with Engine(toy_folder, num_pages=7) as one, Engine(toy_folder, num_pages=7) as two:
        first, second = one.stream([3], FIVE), two.stream([4], FIVE)
        texts = [(a.text, b.text) for a, b in zip(first, second, strict=True)]
    assert "".join(a for a, _ in texts) == words(toy, [3], 5)
    assert "".join(b for _, b in texts) == words(toy, [4], 5)


def test_artifact_moved_while_loaded(toy_folder: Path, tmp_path: Path, toy: ModuleType) -> None:
    """Mapped weights outlive their names."""
    folder = tmp_path / "artifact"
    shutil.copytree(toy_folder, folder)
    with Engine(folder, num_pages=7) as engine:
        shutil.rmtree(folder)
        assert engine.generate([3], FIVE)[0].text == words(toy, [3], 5)


def test_relative_path(toy_folder: Path) -> None:
    code = (
        "from ingot import Engine, SamplingParams\n"
        "print(Engine('.', num_pages=4).generate('w3', SamplingParams(max_tokens=1))[0].token_ids)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=toy_folder, capture_output=True)
    assert run.returncode == 0, run.stderr
