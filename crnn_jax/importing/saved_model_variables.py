"""The variables of a TensorFlow SavedModel, without running or even loading its graph.

A SavedModel keeps them in a checkpoint, under paths of Python attributes. Which variable each is,
'conv1/kernel', stands in the object graph that the checkpoint holds as well.
"""

import os
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.importing.keras_names import ROLES, natural, split_path

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_OPTIMIZER = ("optimizer", ".OPTIMIZER_SLOT")
# What TensorFlow's reader makes of some of its errors, and what wrong ones of its answers lead to.
_WRONG = (RuntimeError, LookupError, ValueError, TypeError)


def is_saved_model(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a SavedModel's variables."""
    return os.path.exists(os.path.join(path, "variables", "variables.index"))


def read_variables(path: str | os.PathLike[str]) -> list[tuple[str, np.ndarray]]:
    """Full name and value of every variable that is not the optimizer's.

    Args:
        path: of the folder, which holds `variables/`.

    Returns:
        In the order in which Keras numbered the layers.

    Raises:
        UserError: damaged, or TensorFlow is not installed.
    """
    name = os.fspath(path)
    try:
        import tensorflow as tf
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
    except ImportError as error:
        raise UserError(
            f"{name}: reading a SavedModel needs TensorFlow: pip install 'crnn-jax[export]'"
        ) from error
    values: dict[str, np.ndarray] = {}
    try:
        reader = tf.train.load_checkpoint(os.path.join(name, "variables", "variables"))
        graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
        for node in graph.nodes:
            for attribute in node.attributes:
                key = attribute.checkpoint_key
                if any(word in key for word in _OPTIMIZER):
                    continue
                full, value = attribute.full_name, np.asarray(reader.get_tensor(key))
                role = split_path(full)[1].rpartition("/")[2]
                # Keras 3 stores everything twice; two networks in one folder are another matter.
                if role in ROLES and not np.array_equal(values.get(full, value), value):
                    raise UserError(f"{name}: two different variables are named {full}")
                values[full] = value
        return sorted(values.items(), key=_place)
    except (tf.errors.OpError, DecodeError, *_WRONG) as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(f"{name}: damaged or cut short: {reason}") from error


def _place(named: tuple[str, Any]) -> list[Any]:
    return natural(named[0])
