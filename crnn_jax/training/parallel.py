"""Runs the pure steps on all devices: parameters on each, every batch cut along its first axis.

    parallel = Parallel('jit')
    state = parallel.replicate(state)
    step = parallel.train_step(lambda axis_name: make_train_step(...))
    state, metrics = step(state, parallel.shard(batch))

`jit` names how the *global* arrays lie on the mesh and XLA adds the communication; sums over a
batch are then global by themselves. `pmap` runs the same function once a device on its own part,
and the function sums along the axis it is told. Both give the same numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from crnn_jax.core.errors import UserError
from crnn_jax.models import native_library

AXIS = "data"
# What of a batch goes to the devices; text, ids and failures stay on the host.
DEVICE_KEYS = ("image", "width", "label", "label_length", "mask")


class Parallel:
    """One way of running on several devices.

    Attributes:
      axis_name: for the model: None under 'jit', the mapped axis under 'pmap'.
    """

    def __init__(self, mode: str, devices: list | None = None):
        if mode not in ("jit", "pmap"):
            raise UserError(f"config.parallel: {mode!r} is not jit or pmap")
        self.mode = mode
        # Process by process, so that each one's rows are one slice of the batch: jax.devices()
        # does not promise that, and jax.make_mesh orders by the wires.
        self.devices = sorted(devices or jax.devices(), key=lambda d: d.process_index)
        self.axis_name = AXIS if mode == "pmap" else None
        self._mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._by_sample = NamedSharding(self._mesh, PartitionSpec(AXIS))

    def check_batch_size(self, key: str, batch_size: int) -> None:
        """Every device takes the same number of samples, or the user is told the config's key."""
        if batch_size < 1 or batch_size % len(self.devices):
            raise UserError(
                f"config.{key}: {batch_size} does not divide by {len(self.devices)} devices"
            )

    def convolution(self, choice: str) -> str:
        """What `config.model.convolution` comes to on these devices: 'onednn' or 'xla'."""
        if choice not in ("auto", "xla", "onednn"):
            raise UserError(f"config.model.convolution: {choice!r} is not auto, xla or onednn")
        reason = native_library.unavailable() if choice != "xla" else ""
        if not reason and self.devices[0].platform != "cpu":
            reason = "it is for CPUs"
        if not reason and self.mode == "jit" and len(self.devices) > 1:
            reason = "with several devices it needs config.parallel=pmap"
        if choice == "onednn" and reason:
            raise UserError(f"config.model.convolution=onednn: {reason}")
        return "xla" if choice == "xla" or reason else "onednn"

    def replicate(self, tree: Any) -> Any:
        """The same arrays on every device."""
        return jax.device_put(tree, self._replicated)

    def savable(self, tree: Any) -> Any:
        """The arrays as ones of all processes: under 'pmap' each process holds its own copy."""
        if self.mode == "pmap" and jax.process_count() > 1:
            return self.replicate(jax.device_get(tree))
        return tree

    def shard(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """This host's slice of a batch, [b / hosts, ...], as global arrays on the devices."""
        arrays = {k: np.asarray(batch[k]) for k in DEVICE_KEYS}
        if self.mode == "pmap":
            local = len([d for d in self.devices if d.process_index == jax.process_index()])
            return {k: a.reshape(local, -1, *a.shape[1:]) for k, a in arrays.items()}
        return {
            k: jax.make_array_from_process_local_data(self._by_sample, a) for k, a in arrays.items()
        }

    def train_step(self, step: Callable) -> Callable:
        """Compiles `(state, batch) -> (state, metrics)`; the state's buffers are given away."""
        if self.mode == "pmap":
            return jax.pmap(
                step, AXIS, in_axes=(None, 0), out_axes=(None, None), devices=self.devices
            )
        # State: the same on every device, in and out, so that any device can take the next step.
        # Batch: cut along the samples. XLA then sums gradients and moments across the mesh.
        return jax.jit(
            step,
            in_shardings=(self._replicated, self._by_sample),
            out_shardings=(self._replicated, self._replicated),
            donate_argnums=0,
        )

    def eval_step(self, step: Callable) -> Callable:
        """Compiles `(variables, batch) -> per-sample results` of all rows; see `own_rows`."""
        if self.mode == "pmap":
            return jax.pmap(step, AXIS, in_axes=(None, 0), devices=self.devices)
        return jax.jit(
            step,
            in_shardings=(self._replicated, self._by_sample),
            out_shardings=self._by_sample,
        )

    def own_rows(self, results: dict[str, Any]) -> dict[str, Any]:
        """Of what an evaluation step gives, the rows of this host's slice."""
        if self.mode == "pmap":
            return {k: v.reshape(-1, *v.shape[2:]) for k, v in results.items()}
        return multihost_utils.global_array_to_host_local_array(
            results, self._mesh, PartitionSpec(AXIS)
        )
