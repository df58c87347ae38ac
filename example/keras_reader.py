"""Reads images of one word each with a Keras file (pip install numpy pillow tensorflow).

python -m crnn_jax.export -o word.h5 --format keras
python keras_reader.py word.h5 image.png...
"""

import itertools
import json
import sys

import h5py
import keras
import numpy as np
from PIL import Image, ImageOps


def resize(path: str, rule: dict) -> np.ndarray:
    """uint8 [1 height width channels], as the network was trained."""
    image = ImageOps.exif_transpose(Image.open(path))  # if of 16 bits, the high ones count:
    image = Image.fromarray(np.uint8(np.array(image) >> 8)) if image.mode[0] == "I" else image
    grey, alpha = np.array(image.convert("RGBA").convert("LA"), int).transpose(2, 0, 1)
    paper = "black" if np.vdot(2 * grey - 255, alpha) > 0 else "white"  # behind bright ink: black
    image = Image.alpha_composite(Image.new("RGBA", image.size, paper), image.convert("RGBA"))
    image = image.convert("L" if rule["channels"] == 1 else "RGB")
    (w, h), height, half = image.size, rule["height"], rule["rounding"] == "round"
    width = min(max((2 * w * height + half * h) // (2 * h), rule["min_width"]), rule["max_width"])
    plain = () if rule["antialias"] else (Image.EXTENT, (0, 0, w, h))
    image = (image.transform if plain else image.resize)((width, height), *plain, Image.BILINEAR)
    return np.array(image).reshape(1, height, width, rule["channels"])


if __name__ == "__main__":
    network = keras.models.load_model(sys.argv[1], compile=False)
    told = json.loads(h5py.File(sys.argv[1]).attrs["crnn_jax.json"])
    for name in sys.argv[2:]:
        (scores,) = np.array(network(resize(name, told["preprocessing"])))
        if told["unknown_id"] >= 0:
            scores[:, told["unknown_id"]] = -np.inf  # a class that is never read
        ids = [i for i, _ in itertools.groupby(scores.argmax(axis=-1))]
        print(f"{name}: {''.join(told['symbols'][i] for i in ids)}")  # the blank writes ''
