"""Reads with an ONNX file of OpenCV's layout: cv2.dnn.TextRecognitionModel alone."""

import os
from typing import Any

import numpy as np


class Reader:
    """See the package's docstring."""

    def __init__(self, job: dict[str, Any]) -> None:
        import cv2

        self.cv2 = cv2
        self.version = f"OpenCV {cv2.__version__}"
        path = job["artefact"]
        with open(
            os.path.splitext(path)[0] + "_vocabulary.txt", encoding="utf-8", newline="\n"
        ) as file:
            vocabulary = [line[:-1] for line in file]
        self.net = cv2.dnn.readNetFromONNX(path)
        self.reader = cv2.dnn.TextRecognitionModel(path)
        self.reader.setDecodeType("CTC-greedy")
        self.reader.setVocabulary(vocabulary)
        self.size = (job["width"], job["height"])
        self.reader.setInputParams(1 / 127.5, self.size, (127.5,))
        # Its classes: the blank, then all but what is never read.
        left_out = (job["blank_id"], job["unknown_id"])
        others = [i for i in range(len(job["symbols"])) if i not in left_out]
        self.classes = [job["blank_id"], *others]
        self.count = len(job["symbols"])

    def arrays(self, images: Any) -> dict[str, Any]:
        """Pictures of the one width; NaN as the score of what is never read."""
        texts, scores = [], []
        for image in images:
            texts.append(self.reader.recognize(image[..., 0]))
            blob = self.cv2.dnn.blobFromImage(image[..., 0], 1 / 127.5, self.size, 127.5)
            self.net.setInput(blob)
            found = self.net.forward().reshape(-1, len(self.classes))  # --> [t, k]
            own = np.full((len(found), self.count), np.nan, np.float32)
            own[:, self.classes] = found
            scores.append(own)
        return {"scores": np.stack(scores), "texts": texts}


def open_model(job: dict[str, Any]) -> Reader:
    """Loads it."""
    return Reader(job)
