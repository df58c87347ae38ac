"""Reads with an ONNX file: onnxruntime alone."""

from typing import Any


class Reader:
    """See the package's docstring."""

    def __init__(self, job: dict[str, Any]) -> None:
        import onnxruntime

        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.session = onnxruntime.InferenceSession(
            job["artefact"], providers=["CPUExecutionProvider"]
        )

    def arrays(self, images: Any) -> dict[str, Any]:
        """Pictures of one width."""
        return {"scores": self.session.run(None, {"images": images})[0]}


def open_model(job: dict[str, Any]) -> Reader:
    """Loads it."""
    return Reader(job)
