"""The network and its loss: jax and flax only, no files, no TensorFlow."""
