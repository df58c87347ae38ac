"""Reads pictures of one word each with a TFLite file that `crnn-jax export` wrote.

pip install numpy pillow ai-edge-litert
python tflite_reader.py word.tflite picture.png...
"""

import json
import sys
import zipfile
from typing import Any

import numpy as np
from PIL import Image, ImageOps

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # where TensorFlow is, it has one too
    from tensorflow.lite import Interpreter


def load(path: str) -> tuple[Any, Any]:
    """(the network, what its file says about characters and pictures)."""
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("crnn_jax.json"))
    return Interpreter(path).get_signature_runner(), told


def resize(picture: Image.Image, rule: Any) -> np.ndarray:
    """uint8 [1 height width channels], as the network was trained."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    height, (w, h) = rule["height"], picture.size
    natural = (2 * w * height + h) // (2 * h)
    width = rule["width"] or min(max(natural, rule["min_width"]), rule["max_width"])
    picture = picture.convert("L" if rule["channels"] == 1 else "RGB")
    levels = np.array(picture.resize((width, height), Image.Resampling[rule["filter"].upper()]))
    return levels.reshape(1, height, width, rule["channels"])


if __name__ == "__main__":
    run, told = load(sys.argv[1])
    for name in sys.argv[2:]:
        out = run(images=resize(Image.open(name), told["preprocessing"]))
        text = "".join(told["symbols"][i] for i in out["ids"][0] if i >= 0)
        print(f"{name}: {text}, probability {out['confidence'][0]:.3f}")
