"""Generates with onnxruntime: the transformers model exported to ONNX with its KV cache.

The graph takes token ids and the cache's tensors and gives the next token and the cache after
it; the tensors go from one step to the next through IO binding, so that nothing but token ids
is copied by Python.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ingot.bench.backends.base import (
    GenerationTimes,
    Setting,
    StepTimer,
    Tokens,
    missing_package,
)
from ingot.bench.backends.hugging_face import accepted_arguments, load_model
from ingot.errors import IngotError, UnsupportedModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FILE = "model.onnx"
# example sizes of the export: none is 1, and none equals another, so that no dimension is fixed
EXAMPLE_BATCH, EXAMPLE_NEW_TOKENS, EXAMPLE_CACHED_TOKENS = 2, 3, 5


class OnnxRuntimeBackend:
    name = "onnxruntime"

    def availability(self, setting: Setting) -> str | None:
        reason = missing_package("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
        if reason is not None:
            return reason
        if setting.device == "cpu":
            if setting.dtype != "float32":
                return f"onnxruntime's CPU provider lacks {setting.dtype} kernels: float32 only"
            return None
        if setting.dtype == "bfloat16":
            return "onnxruntime's caches are made from NumPy arrays, which have no bfloat16"
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            return "onnxruntime has no CUDA provider: onnxruntime-gpu isn't installed"
        return None

    def prepare(self, setting: Setting) -> None:
        export(load_model(replace(setting, device="cpu")), setting)

    def load(self, setting: Setting) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        provider = f"{'CPU' if setting.device == 'cpu' else 'CUDA'}ExecutionProvider"
        if setting.device != "cpu":
            onnxruntime.preload_dlls()  # CUDA and cuDNN from wheels, which the loader can't find
        self.session = onnxruntime.InferenceSession(
            setting.folder / FILE, options, providers=[provider]
        )
        # with a warning and no error it takes the CPU where a provider's libraries don't load
        if (taken := self.session.get_providers()[0]) != provider:
            raise IngotError(
                f"onnxruntime can't load its {provider} and took {taken}",
                hint="pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries it needs",
            )
        self.device = "cpu" if setting.device == "cpu" else "cuda"
        cache = [tensor for tensor in self.session.get_inputs() if is_cache(tensor.name)]
        self.cache_inputs = tuple(tensor.name for tensor in cache)
        self.cache_shapes = tuple(tuple(tensor.shape) for tensor in cache)
        self.cache_outputs = tuple(
            tensor.name for tensor in self.session.get_outputs() if is_cache(tensor.name)
        )
        self.plain_inputs = {tensor.name for tensor in self.session.get_inputs()}

    def generate(self, prompts: Tokens, max_new_tokens: int) -> GenerationTimes:
        import numpy as np

        timer = StepTimer()
        timer.start()
        batch = len(prompts)
        token_ids = np.array(prompts, np.int64)
        cache = self.empty_cache(batch)
        num_cached_tokens = 0
        for _ in range(max_new_tokens):
            num_new_tokens = token_ids.shape[1]
            context = num_cached_tokens + num_new_tokens
            token_ids, cache = self.run(
                {
                    "input_ids": token_ids,
                    "position_ids": np.tile(np.arange(num_cached_tokens, context), (batch, 1)),
                    "attention_mask": np.ones((batch, context), np.int64),
                },
                cache,
            )
            timer.step(token_ids[:, 0].tolist())
            num_cached_tokens = context
        return timer.finish()

    def empty_cache(self, batch: int) -> list[Any]:
        import numpy as np
        import onnxruntime

        element = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        inputs = {tensor.name: tensor for tensor in self.session.get_inputs()}
        return [
            onnxruntime.OrtValue.ortvalue_from_numpy(
                np.zeros((batch, shape[1], 0, shape[3]), element[inputs[name].type]), self.device
            )
            for name, shape in zip(self.cache_inputs, self.cache_shapes, strict=True)
        ]

    def run(self, arrays: dict[str, Any], cache: list[Any]) -> tuple[Any, list[Any]]:
        """One step; `cache` is read, and the cache after the step is returned."""
        binding = self.session.io_binding()
        for name, array in arrays.items():
            if name in self.plain_inputs:
                binding.bind_cpu_input(name, array)
        for name, value in zip(self.cache_inputs, cache, strict=True):
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("next_token", "cpu")
        for name in self.cache_outputs:
            binding.bind_output(name, self.device)
        self.session.run_with_iobinding(binding)
        next_token, *new_cache = binding.get_outputs()
        return next_token.numpy(), new_cache

    def describe(self) -> dict[str, str]:
        return {"provider": self.session.get_providers()[0]}

    def close(self) -> None:
        del self.session


def is_cache(name: str) -> bool:
    return name.startswith(("past_", "present_"))


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Heads and size of a layer's keys and values."""

    heads: int
    key_dim: int
    value_dim: int


def cache_shapes(model: "PreTrainedModel") -> tuple[CacheShape, ...]:
    """Run two tokens and look at the cache: configs name these sizes in too many ways."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad():
        model(
            input_ids=torch.ones((1, 2), dtype=torch.int64),
            past_key_values=cache,
            use_cache=True,
        )
    if any(getattr(layer, "keys", None) is None for layer in cache.layers):
        raise UnsupportedModelError(
            f"{type(model).__name__} keeps more than keys and values between steps; "
            "the onnxruntime backend exports only those"
        )
    return tuple(
        CacheShape(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3])
        for layer in cache.layers
    )


def export(model: "PreTrainedModel", setting: Setting) -> None:
    """Write `model`, on the CPU, as ONNX: token ids and past cache to next token and new cache."""
    import torch
    from transformers import DynamicCache

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: "torch.Tensor",
            position_ids: "torch.Tensor",
            attention_mask: "torch.Tensor",
            past: "list[torch.Tensor]",
        ) -> "tuple[torch.Tensor, list[torch.Tensor]]":
            # without the config every layer keeps all its tokens; windows are in the mask
            cache = DynamicCache()
            for layer, (keys, values) in enumerate(zip(past[::2], past[1::2], strict=True)):
                cache.update(keys, values, layer)
            output = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=cache,
                use_cache=True,
                **accepted_arguments(model, position_ids=position_ids, logits_to_keep=1),
            )
            present = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
            return output.logits[:, -1].argmax(dim=-1, keepdim=True), present

    batch, new, cached = EXAMPLE_BATCH, EXAMPLE_NEW_TOKENS, EXAMPLE_CACHED_TOKENS
    past: list[torch.Tensor] = []
    names: list[str] = []
    for layer, shape in enumerate(cache_shapes(model)):
        for kind, size in (("key", shape.key_dim), ("value", shape.value_dim)):
            past.append(torch.zeros(batch, shape.heads, cached, size, dtype=model.dtype))
            names.append(f"{kind}_{layer}")
    dynamic = torch.export.Dim.DYNAMIC
    row = {0: dynamic, 1: dynamic}
    program = torch.onnx.export(
        Step().eval(),
        (
            torch.ones((batch, new), dtype=torch.int64),
            torch.arange(cached, cached + new).repeat(batch, 1),
            torch.ones((batch, cached + new), dtype=torch.int64),
            past,
        ),
        dynamo=True,
        dynamic_shapes=(row, row, row, [{0: dynamic, 2: dynamic}] * len(past)),
        input_names=[
            "input_ids",
            "position_ids",
            "attention_mask",
            *(f"past_{name}" for name in names),
        ],
        output_names=["next_token", *(f"present_{name}" for name in names)],
        verbose=False,
    )
    assert program is not None
    # beside the graph: one ONNX file ends at 2 GB
    program.save(setting.folder / FILE, external_data=True)
