"""What a model file states: characters, frames for a width, decoding and resizing of images.

Nothing here imports JAX or TensorFlow: numpy, Pillow and safetensors are enough.
"""
