"""What a model file states: characters, frames for a width, decoding and resizing of pictures.

Nothing here imports JAX or TensorFlow: numpy and Pillow are enough.
"""
