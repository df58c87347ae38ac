"""Reads with a TFLite file: ai-edge-litert, or the interpreter inside TensorFlow."""

from typing import Any


def interpreter_class() -> tuple[Any, str]:
    """(class, its version): the stock interpreter, whichever is installed."""
    try:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, f"ai-edge-litert {getattr(ai_edge_litert, '__version__', '')}".strip()
    except ImportError:
        import tensorflow as tf

        return tf.lite.Interpreter, f"TensorFlow Lite of {tf.__version__}"


class Reader:
    """See the package's docstring."""

    def __init__(self, job: dict[str, Any]) -> None:
        interpreter, self.version = interpreter_class()
        self.run = interpreter(job["artefact"], num_threads=2).get_signature_runner()

    def arrays(self, images: Any) -> dict[str, Any]:
        """Pictures of one width."""
        out = self.run(images=images)
        found = {"scores": out["logits"] if "logits" in out else out["probabilities"]}
        if "ids" in out:
            found["ids"] = out["ids"]
        return found


def open_model(job: dict[str, Any]) -> Reader:
    """Loads it."""
    return Reader(job)
