"""Sizes of the kernels, searched on the machine around what the target's data suggest.

`search` is the same for all hardware; `cpu` and `cuda` say what there is to search and time it.
"""
