"""Loads the transformers model that the uncompiled backends run, with its fastest attention."""

import inspect
from typing import TYPE_CHECKING, Any, cast

from ingot.bench.backends.base import Setting, missing_package

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def torch_availability(setting: Setting) -> str | None:
    reason = missing_package("torch", "transformers")
    if reason is None and setting.device != "cpu":
        import torch

        if not torch.cuda.is_available():
            reason = "torch sees no CUDA device"
    return reason


def load_model(setting: Setting) -> "PreTrainedModel":
    """The attention is left to transformers: it takes torch's fused one where the model can."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(setting.threads)
    if setting.random_weights:
        config = AutoConfig.from_pretrained(setting.model, local_files_only=True)
        with torch.device(setting.device):
            made = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, setting.dtype))
        return cast("PreTrainedModel", made.eval())
    model = AutoModelForCausalLM.from_pretrained(
        setting.model,
        dtype=getattr(torch, setting.dtype),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=setting.trust_remote_code,
    )
    return model.eval().to(setting.device)


def accepted_arguments(model: "PreTrainedModel", **arguments: Any) -> dict[str, Any]:
    """Those that this model's forward has: some know no position_ids or logits_to_keep."""
    parameters = inspect.signature(model.forward).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


def describe_model(model: "PreTrainedModel") -> dict[str, str]:
    return {"attention": model.config._attn_implementation}
