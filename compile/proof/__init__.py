"""Compiled against eager: the figures that an artifact carries as its proof."""

from ingot.compile.proof.prove import ProofReport, prove_artifact, run_proof

__all__ = ["ProofReport", "prove_artifact", "run_proof"]
