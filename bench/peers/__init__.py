"""Other engines beside ours on one checkpoint: a process for each, in turns, both ways round.

A peer runs under the Python of an environment that has it; these modules need nothing else there.
"""
