"""Gradients with YNNPACK, as jaxlib has it by default, and without, against float64's.

    python experiments/faults/ynnpack.py

Each is computed in a process of its own, with one flag more or less. The reference is the same
network with float64 in place of float32 everywhere.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from crnn_jax import cpu_settings

CASES = {"crnn_small": (16, 100), "crnn": (8, 64)}  # batch, width


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:

        def gradients(what: str, flags: str) -> dict[str, np.ndarray]:
            path = os.path.join(folder, what + ".npz")
            command = [sys.executable, __file__, path, what]
            subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)
            with np.load(path) as file:
                return dict(file)

        exact = gradients("float64", "")
        for what, flags in (("with YNNPACK", ""), ("without", cpu_settings.NO_YNNPACK)):
            found = gradients(what, flags)
            for name in CASES:
                keys = [key for key in exact if key.startswith(name + "[")]
                norm = np.sqrt(sum(np.sum(exact[key] ** 2) for key in keys))
                off = max(np.linalg.norm((found[key] - exact[key]).ravel()) for key in keys) / norm
                print(f"{name}, {what}: largest error of a leaf, of the gradient's norm: {off:.1e}")


def work(path: str, what: str) -> None:
    """Writes the gradients of both networks."""
    import jax
    import jax.numpy as jnp

    if what == "float64":
        jax.config.update("jax_enable_x64", True)  # noqa: FBT003
        jnp.float32 = jnp.float64  # the modules below take their dtypes from there
    from crnn_jax.models.config import get_model_config
    from crnn_jax.models.crnn import CRNN
    from crnn_jax.models.ctc import ctc_loss
    from crnn_jax.training.state import traced_init

    results = {}
    for name, (b, w) in CASES.items():
        model = CRNN(get_model_config(name, num_classes=37), convolution="xla")
        shapes = jax.eval_shape(lambda key, model=model: traced_init(model, key), jax.random.key(0))
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (b, 32, w, 1), dtype=np.uint8)
        width = np.resize(np.array([w, w - 20, 40], np.int32), b)
        label, length = rng.integers(0, 36, (b, 6), dtype=np.int32), np.full(b, 6, np.int32)

        def weights(leaf: jax.ShapeDtypeStruct, rng: np.random.Generator = rng) -> jax.Array:
            spread = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
            value = spread if len(leaf.shape) > 1 else 1 + 0.1 * np.abs(spread)
            return jnp.asarray(value.astype(np.float32), jnp.float32)

        variables = jax.tree.map(weights, shapes)
        batch = (image, width, label, length)

        def loss(params: dict, model=model, variables=variables, batch=batch) -> jax.Array:
            image, width, label, length = batch
            (logits, lengths), _ = model.apply(
                variables | {"params": params}, image, width, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(ctc_loss(logits, lengths, label, length, blank_id=36))

        found = jax.jit(jax.grad(loss))(variables["params"])
        for key, leaf in jax.tree_util.tree_leaves_with_path(found):
            results[name + jax.tree_util.keystr(key)] = np.asarray(leaf, np.float64)
    np.savez(path, **results)


if __name__ == "__main__":
    work(*sys.argv[1:]) if len(sys.argv) > 1 else main()
