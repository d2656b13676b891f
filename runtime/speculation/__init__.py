"""Several tokens of one sequence in one step: proposals, and whether they are worth their time."""
