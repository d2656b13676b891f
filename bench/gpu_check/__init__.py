"""Kernels, a proof and a benchmark on a GPU: what a machine without one can only prepare.

`prepare` runs anywhere and writes a folder of compiled kernels, inputs and right answers; `run`
runs it on a GPU with the runtime alone. `make gpu-check` does both.
"""
