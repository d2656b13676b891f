"""Generates with torch.compile: prefill as it is, the decode step compiled over a static cache.

That is how transformers' own `generate` uses torch.compile. The step is compiled for each shape
(batch and length) by the first generation of that shape, which is the warm-up of the benchmark.
"""

import os
import shutil
from typing import Any

from ingot.bench.backends.base import GenerationTimes, Setting, StepTimer, Tokens
from ingot.bench.backends.hugging_face import (
    accepted_arguments,
    describe_model,
    load_model,
    torch_availability,
)


class TorchCompileBackend:
    name = "torch-compile"

    def availability(self, setting: Setting) -> str | None:
        reason = torch_availability(setting)
        if reason is not None or setting.device != "cpu":
            return reason
        # what torch's inductor calls on the CPU
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            return f"torch.compile needs a C++ compiler: no {compiler} on the PATH"
        return None

    def prepare(self, setting: Setting) -> None:
        """Compiles at its first step; torch keeps what it built in its own cache on disk."""

    def load(self, setting: Setting) -> None:
        import torch

        self.model = load_model(setting)
        self.last_logits_only = accepted_arguments(self.model, logits_to_keep=1)
        # CUDA graphs on a GPU; on the CPU the mode has no effect but a warning
        self.mode = "reduce-overhead" if setting.device != "cpu" else "default"
        self.compiled_step = torch.compile(self.step, fullgraph=True, dynamic=False, mode=self.mode)
        self.shape: tuple[int, int] | None = None
        # past the limit torch would run eager without a word
        torch._dynamo.config.fail_on_recompile_limit_hit = True

    def step(self, token_ids: Any, cache: Any, positions: dict[str, Any]) -> Any:
        output = self.model(
            input_ids=token_ids,
            past_key_values=cache,
            use_cache=True,
            **positions,
            **self.last_logits_only,
        )
        return output.logits[:, -1].argmax(dim=-1, keepdim=True)

    def generate(self, prompts: Tokens, max_new_tokens: int) -> GenerationTimes:
        import torch
        from transformers import StaticCache

        batch, prompt_length = len(prompts), len(prompts[0])
        shape = (batch, prompt_length + max_new_tokens)
        if shape != self.shape:
            torch._dynamo.reset()
            self.shape = shape
            self.cache = StaticCache(config=self.model.config, max_cache_len=shape[1])
        timer = StepTimer()
        timer.start()
        with torch.no_grad():
            self.cache.reset()
            token_ids = torch.tensor(prompts, device=self.model.device)
            position = torch.full((batch, 1), prompt_length, device=self.model.device)
            positions = accepted_arguments(self.model, position_ids=position)
            token_ids = self.step(token_ids, self.cache, {})
            timer.step(token_ids[:, 0].tolist())
            for _ in range(max_new_tokens - 1):
                # a CUDA graph's output lives until its next run: keep the input apart from it
                token_ids = self.compiled_step(token_ids.clone(), self.cache, positions)
                timer.step(token_ids[:, 0].tolist())
                position += 1
        return timer.finish()

    def describe(self) -> dict[str, str]:
        return {**describe_model(self.model), "cache": "static", "mode": self.mode}

    def close(self) -> None:
        del self.compiled_step, self.model
