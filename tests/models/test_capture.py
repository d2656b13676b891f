"""Every family of the table: the captured model computes what the plain one does."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ingot.errors import UnsupportedModelError, UsageError
from ingot.models.capture import (
    UNLIMITED_CONTEXT,
    CapturedForward,
    capture,
    choose_context,
    prepare,
)
from ingot.models.families import CONTEXT_TOKENS, FAMILIES
from ingot.models.rope import freeze_rope
from tests.models.running import Runner, plain_logits, relative_error
from tests.tiny_models import create_tiny_model, find_family
from tests.tolerances import TOLERANCES

BOUND = TOLERANCES["captured"].atol
# A dropped attribute moves the logits by more than a hundred times that.
MOVED = 1e-3


def pair(name: str) -> tuple[Any, CapturedForward]:
    """The plain model and a prepared copy with the same weights."""
    plain = create_tiny_model(find_family(name))
    prepared = prepare(copy.deepcopy(plain), CONTEXT_TOKENS)
    freeze_rope(plain, CONTEXT_TOKENS)
    return plain, prepared


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_captured_is_eager(name: str, two_prompts: tuple[Tensor, Tensor]) -> None:
    """Two sequences packed in one row, then single tokens of both, then more of one."""
    first, second = two_prompts
    plain, prepared = pair(name)
    wanted = [plain_logits(plain, ids) for ids in two_prompts]
    runner = Runner(prepared)
    got: list[list[Tensor]] = [[], []]
    for taken in ((20, 7), (1, 1), (1, 1), (1, 2)):
        starts = [runner.lengths.get(i, 0) for i in range(2)]
        pieces = [
            (i, ids[start : start + n])
            for i, (ids, start, n) in enumerate(zip(two_prompts, starts, taken, strict=True))
        ]
        for i, logits in enumerate(runner.step(pieces)):
            got[i].append(logits)
    assert runner.lengths == {0: len(first), 1: len(second)}
    for parts, want in zip(got, wanted, strict=True):
        assert relative_error(torch.cat(parts), want) < BOUND


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_kv_slots_and_layers(name: str) -> None:
    plain, prepared = pair(name)
    ids = torch.arange(3, 10)[None]
    with torch.no_grad():
        logits = prepared(ids, torch.arange(7)[None], torch.tensor([6, 2]))
        whole = plain(ids, use_cache=False).logits
    assert relative_error(logits, whole[:, [6, 2]]) < BOUND
    slots = prepared.recorder.kv_slots
    config = plain.config
    assert len(slots) in (config.num_hidden_layers, 2 * config.num_hidden_layers)
    sliding = [kind == "sliding_attention" for kind in getattr(config, "layer_types", None) or []]
    if any(sliding):
        assert [slot.window > 0 for slot in slots] == sliding


class Altered(TorchDispatchMode):
    """Runs paged attention with some of its arguments changed."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.changes = changes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.ingot.paged_attention.default:
            names = [argument.name for argument in func._schema.arguments]
            args = tuple(
                self.changes.get(name, given) for name, given in zip(names, args, strict=True)
            )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "attribute", "dropped"),
    [
        ("mistral", "window", 0),
        ("qwen2", "window", 0),
        ("gemma2", "window", 0),
        ("gemma2", "softcap", 0.0),
        ("gemma3_text", "window", 0),
        ("gpt_neo", "window", 0),
        ("vaultgemma", "softcap", 0.0),
        ("bloom", "slopes", None),
        ("mpt", "slopes", None),
        ("falcon-alibi", "slopes", None),
        ("granite", "scale", 1.0),
        ("llama", "causal", False),
    ],
)
def test_attribute_matters(
    name: str, attribute: str, dropped: Any, two_prompts: tuple[Tensor, Tensor]
) -> None:
    ids = two_prompts[0]
    plain, prepared = pair(name)
    rows = torch.arange(len(ids))
    with torch.no_grad(), Altered(**{attribute: dropped}):
        moved = prepared(ids[None], rows[None], rows)[0]
    assert relative_error(moved, plain_logits(plain, ids)) > MOVED


@pytest.fixture(scope="module")
def captured() -> Any:
    return capture(find_family("llama-llama3").config(), dtype=torch.float32, max_context_tokens=64)


def test_capture_needs_no_weights(captured: Any) -> None:
    assert captured.num_layers == 2
    assert captured.vocab_size == 128
    assert captured.hidden_size == 32
    assert [slot.kv_heads for slot in captured.kv_slots] == [2, 2]
    names = list(captured.parameters.values())
    assert "model.layers.1.self_attn.q_proj.weight" in names
    assert "lm_head.weight" not in names  # tied: one name for both
    assert names.count("model.embed_tokens.weight") == 1
    assert [tuple(value.shape) for value in captured.constants.values()] == [(4,)]


def test_captured_program_is_the_model(captured: Any, two_prompts: tuple[Tensor, Tensor]) -> None:
    """The exported program, given the weights, at another length than it was exported with."""
    ids = two_prompts[1]
    plain = create_tiny_model(find_family("llama-llama3"))
    state = plain.state_dict()
    placeholders = [n.name for n in captured.program.graph.nodes if n.op == "placeholder"]
    rows = torch.tensor([10, 3, 3])
    inputs = {
        "input_ids": ids[None],
        "position_ids": torch.arange(11)[None],
        "logit_rows": rows,
        **{name: state[path] for name, path in captured.parameters.items()},
        **captured.constants,
    }
    interpreter = torch.fx.Interpreter(captured.program.graph_module)
    (logits,) = interpreter.run(*[inputs.get(name, torch.empty(0)) for name in placeholders])
    assert relative_error(logits[0], plain_logits(plain, ids)[rows]) < BOUND


def test_context_longer_than_positions() -> None:
    with pytest.raises(UsageError, match="65 tokens is wanted; .* made for 1 to 64"):
        capture(find_family("gpt2").config(), dtype=torch.float32, max_context_tokens=65)


@pytest.mark.parametrize("field", ["max_position_embeddings", "n_positions", "max_seq_len"])
def test_context_by_default_is_the_longest(field: str) -> None:
    config = SimpleNamespace(model_type="any", **{field: 77})
    assert choose_context(config, None) == choose_context(config, 77) == 77
    for wrong in (78, 0, -1):
        with pytest.raises(UsageError, match=f"{wrong} tokens is wanted; .* 1 to 77"):
            choose_context(config, wrong)


def test_context_of_a_model_that_names_no_longest() -> None:
    config = SimpleNamespace(model_type="bloom")
    assert choose_context(config, None) == UNLIMITED_CONTEXT
    assert choose_context(config, 9 * UNLIMITED_CONTEXT) == 9 * UNLIMITED_CONTEXT
    with pytest.raises(UsageError, match="made for at least 1"):
        choose_context(config, 0)


@pytest.mark.parametrize(
    ("model_type", "construct", "module"),
    [
        ("mixtral", "mixture of experts", "model.layers.0.mlp.experts"),
        ("mamba", "recurrence with a convolution", "backbone.layers.0.mixer"),
    ],
)
def test_construct_of_later_work_is_named(model_type: str, construct: str, module: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(
        model_type, vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=1
    )
    with pytest.raises(UnsupportedModelError) as raised:
        capture(config, dtype=torch.float32, max_context_tokens=64)
    assert construct in raised.value.message
    assert f"`{module}`" in raised.value.message
    assert f"modeling_{model_type}.py:" in raised.value.message


def test_rows_are_gathered_where_the_model_cannot(two_prompts: tuple[Tensor, Tensor]) -> None:
    """Remote code often has no `logits_to_keep`."""
    ids = two_prompts[1]
    plain = create_tiny_model(find_family("llama"))
    old = copy.deepcopy(plain)
    whole = old.forward

    def forward(input_ids: Tensor, position_ids: Tensor, use_cache: bool) -> Any:
        return whole(input_ids=input_ids, position_ids=position_ids, use_cache=use_cache)

    old.forward = forward  # type: ignore[method-assign]
    prepared = prepare(old, CONTEXT_TOKENS)
    rows = torch.tensor([10, 0])
    with torch.no_grad():
        got = prepared(ids[None], torch.arange(11)[None], rows)[0]
    assert relative_error(got, plain_logits(plain, ids)[rows]) < BOUND


def test_model_that_is_no_language_model() -> None:
    from transformers import AutoConfig

    with pytest.raises(UnsupportedModelError, match="`vit` is no causal language model"):
        capture(AutoConfig.for_model("vit"), dtype=torch.float32, max_context_tokens=64)
