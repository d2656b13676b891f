"""Mask closures of transformers become numbers; others are refused."""

import pytest
import torch
from transformers import masking_utils as hf

from ingot.errors import UnsupportedModelError
from ingot.models.masks import MaskSpec, mask_interface, read_mask


def test_known_masks() -> None:
    padding = torch.zeros(1, dtype=torch.int64)
    packed = torch.zeros(1, 4, dtype=torch.int64)
    assert read_mask(hf.causal_mask_function) == MaskSpec(causal=True)
    assert read_mask(hf.bidirectional_mask_function) == MaskSpec()
    assert read_mask(hf.sliding_window_causal_mask_function(7)) == MaskSpec(True, window=7)
    assert read_mask(hf.sliding_window_bidirectional_mask_function(7)) == MaskSpec(window=7)
    assert read_mask(hf.chunked_causal_mask_function(5, padding)) == MaskSpec(True, chunk=5)
    wrapped = hf.packed_sequence_compatibility_function(hf.causal_mask_function, packed, packed)
    assert read_mask(hf.add_offsets_to_mask_function(wrapped, 0, 0)) == MaskSpec(True)


def test_unknown_mask_is_refused() -> None:
    union = hf.or_masks(hf.causal_mask_function, hf.bidirectional_mask_function)
    with pytest.raises(UnsupportedModelError, match="mask made by `or_masks`"):
        mask_interface(mask_function=union)
    with pytest.raises(UnsupportedModelError, match="mask made by"):
        read_mask(lambda *_: True)


def test_models_may_slice_and_cast() -> None:
    spec = MaskSpec(causal=True)
    assert spec[:, :, :, :5] is spec
    assert spec.to(torch.bool) is spec
