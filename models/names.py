"""Gives every parameter and persistent buffer of a model one name, tied ones the same."""

from torch import nn


def parameter_names(model: nn.Module) -> dict[str, str]:
    """Path of each parameter and persistent buffer -> the first path of the same tensor."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for path, tensor in model.state_dict(keep_vars=True).items():
        names[path] = first.setdefault(id(tensor), path)
    return names
