"""Generates with the transformers model as it is: its own forward and its own growing cache.

The loop is written out instead of `model.generate`, so that the first token and every step
can be timed; it does the same work less generate's bookkeeping, which flatters eager if anything.
"""

from ingot.bench.backends.base import GenerationTimes, Setting, StepTimer, Tokens
from ingot.bench.backends.hugging_face import (
    accepted_arguments,
    describe_model,
    load_model,
    torch_availability,
)


class EagerBackend:
    name = "eager"

    def availability(self, setting: Setting) -> str | None:
        return torch_availability(setting)

    def prepare(self, setting: Setting) -> None:
        """The checkpoint is all that eager needs."""

    def load(self, setting: Setting) -> None:
        self.model = load_model(setting)
        self.last_logits_only = accepted_arguments(self.model, logits_to_keep=1)

    def generate(self, prompts: Tokens, max_new_tokens: int) -> GenerationTimes:
        import torch
        from transformers import DynamicCache

        timer = StepTimer()
        timer.start()
        with torch.inference_mode():
            token_ids = torch.tensor(prompts, device=self.model.device)
            # made from the config, sliding-window layers keep only their window
            cache = DynamicCache(config=self.model.config)
            for _ in range(max_new_tokens):
                output = self.model(
                    input_ids=token_ids,
                    past_key_values=cache,
                    use_cache=True,
                    **self.last_logits_only,
                )
                token_ids = output.logits[:, -1].argmax(dim=-1, keepdim=True)
                timer.step(token_ids[:, 0].tolist())
        return timer.finish()

    def describe(self) -> dict[str, str]:
        return describe_model(self.model)

    def close(self) -> None:
        del self.model
