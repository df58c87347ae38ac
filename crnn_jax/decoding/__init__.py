"""From a network's logits to texts: greedy decoding, confidence, alignment."""
