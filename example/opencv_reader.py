"""Reads images of one word each with an ONNX file (pip install opencv-python-headless).

python -m crnn_jax.export -o word.onnx --format onnx --layout opencv
python opencv_reader.py word.onnx image.png...
"""

import json
import pathlib
import sys

import cv2


def load(path: str) -> tuple[cv2.dnn.TextRecognitionModel, tuple[int, int]]:
    """(the reader, (width, height) of its images in pixels)."""
    # OpenCV does not show what an ONNX file says of itself: it is JSON behind the weights.
    data = pathlib.Path(path).read_bytes()
    text = data[data.rindex(b'{"symbols": ') :].decode(errors="ignore")
    told, _ = json.JSONDecoder().raw_decode(text)
    rule = told["preprocessing"]
    size = (rule["width"], rule["height"])
    reader = cv2.dnn.TextRecognitionModel(path)
    reader.setDecodeType("CTC-greedy")
    reader.setVocabulary(told["symbols"][1:])  # OpenCV's blank is always the first class
    reader.setInputParams(1 / rule["scale"], size, (rule["mean"],))
    return reader, size


if __name__ == "__main__":
    reader, size = load(sys.argv[1])
    for name in sys.argv[2:]:
        image = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
        if image is None:
            sys.exit(f"{name}: OpenCV cannot read this file")
        way = cv2.INTER_AREA if image.shape[1] > size[0] else cv2.INTER_LINEAR  # without aliasing
        print(f"{name}: {reader.recognize(cv2.resize(image, size, interpolation=way))}")
