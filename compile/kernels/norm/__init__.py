"""RMSNorm and LayerNorm, with the residual add."""
