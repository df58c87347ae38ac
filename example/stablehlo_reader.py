"""Reads images of one word each with a StableHLO file (pip install numpy pillow jax flatbuffers).

python -m crnn_jax.export -o word.stablehlo --format stablehlo
python stablehlo_reader.py word.stablehlo image.png...
"""

import json
import pathlib
import sys
import zipfile

import jax
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
    told = json.loads(zipfile.ZipFile(sys.argv[1]).read("crnn_jax.json"))
    program = jax.export.deserialize(bytearray(pathlib.Path(sys.argv[1]).read_bytes()))
    for name in sys.argv[2:]:
        images = resize(name, told["preprocessing"])
        widths = np.array([images.shape[2]], np.int32)  # what lies right of them is ignored
        out = program.call(images, widths)
        text = "".join(told["symbols"][i] for i in np.array(out["ids"][0]) if i >= 0)
        print(f"{name}: {text}, probability {out['confidence'][0]:.3f}")
