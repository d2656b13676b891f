"""Pick the next token from logits, after penalties."""
