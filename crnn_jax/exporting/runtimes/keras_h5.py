"""Reads with a Keras file: Keras on TensorFlow."""

from typing import Any


class Reader:
    """See the package's docstring."""

    def __init__(self, job: dict[str, Any]) -> None:
        import keras

        self.version = f"Keras {keras.__version__}"
        self.model = keras.models.load_model(job["artefact"], compile=False)

    def arrays(self, images: Any) -> dict[str, Any]:
        """Pictures of one width."""
        return {"scores": self.model.predict_on_batch(images.astype("float32"))}


def open_model(job: dict[str, Any]) -> Reader:
    """Loads it."""
    return Reader(job)
