"""The network inside a SavedModel: JAX's own program, or the Keras twin's ordinary operations."""

from typing import Any

import jax
import numpy as np
import tensorflow as tf

from crnn_jax.exporting.export_functions import beam_texts, network, width_constraint
from crnn_jax.exporting.program import PLATFORMS, export_program
from crnn_jax.exporting.tf_decoding import emittable
from crnn_jax.reading.loaded_model import LoadedModel


class JaxNetwork(tf.Module):
    """Runs the network as JAX lowered it: StableHLO in one operation, `XlaCallModule`.

    That is what jax2tf does; here the program is one that TensorFlow 2.18 reads too.

    Args:
        model: what to run; its parameters become `tf.Variable`s.
        post: 'beam_search' puts the search into the same program.
        beam_width: texts that it keeps from frame to frame.
        batch, width: fixed sizes; 0: free.
    """

    def __init__(
        self, model: LoadedModel, post: str, beam_width: int = 10, batch: int = 0, width: int = 0
    ) -> None:
        super().__init__()
        self._pads_width = model.preprocessing.free_width
        # Flattening by JAX gives the order of the program's arguments.
        self.parameters = [
            tf.Variable(array, trainable=False) for array in jax.tree.leaves(model.variables)
        ]
        self._lower(model, _function(model, post, beam_width), batch, width)

    def _lower(self, model: LoadedModel, function: Any, batch: int, width: int) -> None:
        program = export_program(function, model, variables_inside=False, batch=batch, width=width)
        self._taken = program.module_kept_var_idx  # of parameters, images, widths
        self._attributes = {
            "version": program.calling_convention_version,
            "module": program.mlir_module_serialized,
            "platforms": [platform.upper() for platform in program.platforms],
            "Tout": [tf.as_dtype(out.dtype) for out in program.out_avals],
            "Sout": [
                tf.TensorShape([n if isinstance(n, int) else None for n in out.shape])
                for out in program.out_avals
            ],
        }

    def __call__(self, images: Any, widths: Any) -> dict[str, Any]:
        """A `serving.Network`.

        XLA compiles for every shape anew, so arrays are padded to a few: rows to a power of two,
        free widths to `batching.padded_width`. The network does not see padding.
        """
        shape = tf.shape(images)
        b, w = shape[0], shape[2]
        more_rows = power_of_two_above(b) - b
        more_columns = (padded_width(w) if self._pads_width else tf.maximum(w, 8)) - w
        images = tf.pad(images, [[0, more_rows], [0, 0], [0, more_columns], [0, 0]])
        widths = tf.pad(widths, [[0, more_rows]])
        return {name: value[:b] for name, value in self.exactly(images, widths).items()}

    def exactly(self, images: Any, widths: Any) -> dict[str, Any]:
        """The same with arrays as they are."""
        given = [*self.parameters, images, widths]
        # TensorFlow has the operation, but no public name for it.
        from tensorflow.compiler.tf2xla.python import xla

        found = xla.call_module([given[i] for i in self._taken], **self._attributes)
        names = ("logits", "frames", "ids")[: len(found)]
        return dict(zip(names, found, strict=True))


class Jax2TfNetwork(JaxNetwork):
    """The same by `jax2tf.convert`, whose programs ask for a TensorFlow as new as JAX."""

    def _lower(self, model: LoadedModel, function: Any, batch: int, width: int) -> None:
        from jax.experimental import jax2tf

        rule, tree = model.preprocessing, jax.tree.structure(model.variables)
        sizes = f"({batch or 'b'}, {rule.height}, {width or 'w'}, {rule.channels})"
        self._converted = jax2tf.convert(
            lambda leaves, *arrays: function(jax.tree.unflatten(tree, leaves), *arrays),
            polymorphic_shapes=[None, sizes, f"({batch or 'b'},)"],
            polymorphic_constraints=[] if width else [width_constraint(model.config)],
            native_serialization_platforms=PLATFORMS,
            with_gradient=False,
        )

    def exactly(self, images: Any, widths: Any) -> dict[str, Any]:
        """The same with arrays as they are."""
        found = self._converted(self.parameters, images, widths)
        return dict(zip(("logits", "frames", "ids"), found, strict=False))


def _function(model: LoadedModel, post: str, beam_width: int) -> Any:
    """(variables, images, widths) -> logits, frames, and with a beam search ids."""
    score = network(model.config)

    def function(variables: Any, images: Any, widths: Any) -> Any:
        logits, frames = score(variables, images, widths)
        if post != "beam_search":
            return logits, frames
        ids, _ = beam_texts(
            logits,
            frames,
            beam_width=beam_width,
            blank_id=model.charset.blank_id,
            unknown_id=model.unknown_id,
        )
        return logits, frames, ids

    return function


class TensorNetwork(tf.Module):
    """Runs a Keras network, which has no masks: pictures of one width at a time.

    Args:
        model: what it was made of.
        keras_model: images [b, h, w, c] in levels 0 to 255 -> logits [b, t, k].
        post: 'beam_search' puts TensorFlow's own search behind it.
        beam_width: texts that it keeps from frame to frame.
    """

    def __init__(self, model: LoadedModel, keras_model: Any, post: str, beam_width: int) -> None:
        super().__init__()
        self.keras_model = keras_model
        self._model = model
        self._beam_width = beam_width if post == "beam_search" else 0

    def __call__(self, images: Any, widths: Any) -> dict[str, Any]:
        """A `serving.Network`."""
        classes = self._model.config.num_classes
        shape = tf.shape(images)
        unique, group = tf.unique(widths)

        def read(index: Any, logits: Any, frames: Any) -> tuple[Any, Any, Any]:
            rows = tf.where(group == index)
            width = unique[index]
            same = tf.gather_nd(images, rows)[:, :, :width]
            found = tf.cond(
                width >= SMALLEST,
                lambda: self.keras_model(tf.cast(same, tf.float32), training=False),
                lambda: tf.zeros([tf.size(rows), 0, classes]),
            )
            t = tf.shape(found)[1]
            found = tf.pad(found, [[0, 0], [0, tf.shape(logits)[1] - t], [0, 0]])
            logits = tf.tensor_scatter_nd_update(logits, rows, found)
            count = tf.fill([tf.size(rows)], t)
            return index + 1, logits, tf.tensor_scatter_nd_update(frames, rows, count)

        # Both geometries make at most a frame of four columns, and one more.
        nothing = tf.zeros([shape[0], shape[2] // 4 + 1, classes]), tf.zeros([shape[0]], tf.int32)
        _, logits, frames = tf.while_loop(
            lambda index, *_: index < tf.size(unique), read, (tf.constant(0), *nothing)
        )
        found = {"logits": logits, "frames": frames}
        return found | ({"ids": self._beam(logits, frames)} if self._beam_width else {})

    def _beam(self, logits: Any, frames: Any) -> Any:
        """TensorFlow's prefix beam search; its blank is the last class."""
        k, blank = self._model.config.num_classes, self._model.charset.blank_id
        order = np.array([i for i in range(k) if i != blank] + [blank], np.int32)
        logits = tf.gather(emittable(logits, self._model.unknown_id), order, axis=2)
        (found,), _ = tf.nn.ctc_beam_search_decoder(
            tf.transpose(logits, [1, 0, 2]), frames, beam_width=self._beam_width
        )
        size = tf.shape(logits, tf.int64)[:2]
        ids = tf.scatter_nd(found.indices, found.values + 1, size)
        return tf.gather(np.concatenate([[-1], order]).astype(np.int32), ids)


SMALLEST = 8  # pixels: narrower pictures have no frame in one of the geometries


def power_of_two_above(n: Any) -> Any:
    """int32 scalar >= 1 -> the next power of two."""
    n = n - 1
    for shift in (1, 2, 4, 8, 16):
        n = tf.bitwise.bitwise_or(n, tf.bitwise.right_shift(n, shift))
    return n + 1


def padded_width(width: Any) -> Any:
    """int32 scalar -> `batching.padded_width` of it, in TensorFlow operations."""
    step = tf.maximum(32, power_of_two_above(tf.maximum(-(-width // 8), 1)))
    return tf.maximum(-(-width // step), 1) * step
