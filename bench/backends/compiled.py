"""Generates with Ingot: the model compiled into an artifact, the artifact run by the engine.

The engine is driven as an application drives it, through `add_request` and `step`, so that its
scheduling and its text are part of the times.
"""

from pathlib import Path

from ingot.bench.backends.base import (
    GenerationTimes,
    Setting,
    StepTimer,
    Tokens,
    missing_package,
)

ARTIFACT = "artifact"


def artifact_of(setting: Setting) -> Path:
    """The artifact that is measured: the one given, or what `prepare` makes."""
    return setting.artifact or setting.folder / ARTIFACT


class CompiledBackend:
    name = "compiled"

    def availability(self, setting: Setting) -> str | None:
        if setting.artifact is not None:
            return missing_package("tvm_ffi")
        return missing_package("tvm", "torch", "transformers")

    def prepare(self, setting: Setting) -> None:
        if setting.artifact is not None:
            return
        from ingot.compile.api import compile_model
        from ingot.runtime.artifact.machine import resolve_target_here

        compile_model(
            str(setting.model),
            target=resolve_target_here(setting.target or setting.device),
            quant=setting.quant,
            out=artifact_of(setting),
            trust_remote_code=setting.trust_remote_code,
            prove=False,  # the benchmark sets its text beside eager's itself
            force=True,
        )

    def load(self, setting: Setting) -> None:
        from ingot.runtime.artifact.artifact import load_artifact
        from ingot.runtime.engine import Engine

        artifact = load_artifact(artifact_of(setting))
        pages_per_sequence = -(-setting.max_context_tokens // artifact.manifest.page_size_tokens)
        self.engine = Engine(
            artifact,
            num_threads=setting.threads,
            num_pages=setting.max_batch * pages_per_sequence,
            max_sequences=setting.max_batch,
            # a whole batch's prompts in one step, as the other backends read them
            max_step_tokens=setting.max_batch * setting.max_prompt_tokens,
        )

    def generate(self, prompts: Tokens, max_new_tokens: int) -> GenerationTimes:
        from ingot.runtime.sampling_params import SamplingParams

        params = SamplingParams(max_tokens=max_new_tokens, ignore_eos=True)
        timer = StepTimer()
        timer.start()
        requests = [self.engine.add_request(prompt, params) for prompt in prompts]
        while self.engine.has_work:
            tokens = {chunk.request_id: chunk.token_ids[0] for chunk in self.engine.step()}
            timer.step([tokens[request] for request in requests])
        return timer.finish()

    def describe(self) -> dict[str, str]:
        manifest = self.engine.manifest
        return {
            "target": manifest.target.name,
            "quant": manifest.scheme.name,
            "proof": manifest.proof.status,
        }

    def close(self) -> None:
        self.engine.close()
