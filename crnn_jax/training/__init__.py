"""State, step, parallel wrapping, optimizer, checkpoints and the loop."""
