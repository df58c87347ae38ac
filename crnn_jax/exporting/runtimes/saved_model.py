"""Reads with a SavedModel: TensorFlow alone."""

import os
from typing import Any


class Reader:
    """See the package's docstring."""

    def __init__(self, job: dict[str, Any]) -> None:
        import tensorflow as tf

        self.tf = tf
        self.version = f"TensorFlow {tf.__version__}"
        # The signatures live as long as the model.
        self.model = tf.saved_model.load(os.path.join(job["artefact"], "1"))
        self.signatures = self.model.signatures

    def arrays(self, images: Any) -> dict[str, Any]:
        """Pictures of one width."""
        out = self.signatures["serving_default"](images=self.tf.constant(images))
        found = {"scores": out.get("logits", out.get("probabilities")).numpy()}
        if "ids" in out:
            found["ids"] = out["ids"].numpy()
            found["texts"] = [text.decode() for text in out["text"].numpy()]
        return found


class FileReader(Reader):
    """One whose model writes texts."""

    def files(self, contents: list[bytes]) -> list[str]:
        """Encoded pictures of any sizes."""
        out = self.signatures["serving_bytes"](image_bytes=self.tf.constant(contents))
        return [text.decode() for text in out["text"].numpy()]


def open_model(job: dict[str, Any]) -> Reader:
    """Loads it; without a decoder it reads no files."""
    return Reader(job) if job["post"] in ("none", "softmax") else FileReader(job)
