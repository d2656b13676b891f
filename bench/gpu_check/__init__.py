"""Kernels, proofs and a benchmark on a GPU: what a machine without one can only prepare.

`prepare` runs anywhere and writes a folder (`plan.py` says of what); `run` measures it on a GPU,
with the runtime and the machine's own torch and transformers. `make gpu-check` does both.
"""
