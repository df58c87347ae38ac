"""Reads images of one word each with a SavedModel (pip install tensorflow).

python -m crnn_jax.export -o word
python saved_model_reader.py word/1 image.png...
"""

import pathlib
import sys

import tensorflow as tf

if __name__ == "__main__":
    read = tf.saved_model.load(sys.argv[1]).signatures["serving_bytes"]
    files = [pathlib.Path(name).read_bytes() for name in sys.argv[2:]]
    out = read(image_bytes=tf.constant(files))
    for name, text, confidence in zip(sys.argv[2:], out["text"], out["confidence"], strict=True):
        print(f"{name}: {text.numpy().decode()}, probability {confidence:.3f}")
