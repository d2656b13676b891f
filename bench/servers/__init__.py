"""Servers under one load, in turns, and eager transformers that answers one request at a time.

`ingot.bench.serve` measures one server; this package starts and stops several around it.
"""
