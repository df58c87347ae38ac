"""How good readings are: sums and counts first, divisions last."""
