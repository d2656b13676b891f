"""Sizes of the CPU kernels, searched on the machine around what the target's data suggest."""
