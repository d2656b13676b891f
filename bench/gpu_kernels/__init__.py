"""Kernels for a GPU by themselves, outside of any model.

`write` makes files of them on any machine; `load` makes functions of the files on a machine with
the GPU, with the runtime alone.
"""
