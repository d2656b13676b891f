"""Where weights are planned to lie is where the writer of artifacts puts them."""

from pathlib import Path

import numpy as np

from ingot.bench.gpu_check.hollow import NOT_WRITTEN, place_weights
from ingot.runtime.artifact.weights_file import TensorSpec, WeightsWriter, storage_dtype

SPECS = [
    TensorSpec("model.norm.weight", "float32", (100,)),
    TensorSpec("model.q.weight", "uint16", (31, 7)),
    TensorSpec("model.o.weight", "uint8", (3, 5, 11)),
    TensorSpec("model.o.weight.scale", "float16", (3, 5)),
]


def test_places_are_those_of_the_writer(tmp_path: Path) -> None:
    with WeightsWriter(tmp_path, SPECS) as writer:
        for spec in SPECS:
            writer.append(spec.name, np.zeros(spec.shape, storage_dtype(spec.dtype)))
    weights, files = place_weights(SPECS)
    unhashed = {"sha256": NOT_WRITTEN}
    assert weights == [weight.model_copy(update=unhashed) for weight in writer.weights]
    assert files == [file.model_copy(update=unhashed) for file in writer.files]
