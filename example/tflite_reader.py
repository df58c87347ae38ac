"""Reads images of one word each with a TFLite file (pip install numpy pillow ai-edge-litert).

python -m crnn_jax.export -o a.tflite --format tflite && python tflite_reader.py a.tflite IMAGE...
"""

import json
import sys
import zipfile

import numpy as np
from PIL import Image, ImageOps

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # where TensorFlow is, it has one too
    from tensorflow.lite.python.interpreter import Interpreter


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
    run = Interpreter(sys.argv[1]).get_signature_runner()
    told = json.loads(zipfile.ZipFile(sys.argv[1]).read("crnn_jax.json"))
    for name in sys.argv[2:]:
        out = run(images=resize(name, told["preprocessing"]))
        text = "".join(told["symbols"][i] for i in out["ids"][0] if i >= 0)
        print(f"{name}: {text}, probability {out['confidence'][0]:.3f}")
