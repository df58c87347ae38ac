"""Reads with a StableHLO program: JAX without flax and without this package."""

from typing import Any


class Reader:
    """See the package's docstring."""

    def __init__(self, job: dict[str, Any]) -> None:
        import jax
        import numpy as np

        self.np = np
        self.version = f"JAX {jax.__version__}"
        with open(job["artefact"], "rb") as file:
            self.call = jax.jit(jax.export.deserialize(bytearray(file.read())).call)

    def arrays(self, images: Any) -> dict[str, Any]:
        """Pictures of one width."""
        b, _, w, _ = images.shape
        # Every shape compiles: padded to a few of them, as the program knows the real widths.
        room = self.np.zeros(
            (16 if b > 1 else 1, images.shape[1], -(-w // 32) * 32, images.shape[3]), self.np.uint8
        )
        room[:b, :, :w] = images
        widths = self.np.zeros(len(room), self.np.int32)
        widths[:b] = w
        out = self.call(room, widths)
        t = int(out["frames"][0])
        scores = out["logits"] if "logits" in out else out["probabilities"]
        found = {"scores": self.np.asarray(scores)[:b, :t]}
        if "ids" in out:
            found["ids"] = self.np.asarray(out["ids"])[:b, :t]
        return found


def open_model(job: dict[str, Any]) -> Reader:
    """Loads it."""
    return Reader(job)
