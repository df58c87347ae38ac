"""Writes a TensorFlow SavedModel as TF Serving wants it: OUT/1/, warm-up requests inside.

    write_saved_model(LoadedModel.open('en_36'), 'word', post='greedy')
    read = tf.saved_model.load('word/1').signatures['serving_bytes']
    read(image_bytes=tf.constant([open('a.png', 'rb').read()]))

`serving_default` takes images of one width, `with_widths` padded ones, `serving_bytes` files. The
network is jax2tf's: StableHLO in one XlaCallModule, which TensorFlow 2.20 and later load.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import tensorflow as tf
from jax._src.export import _export
from jax.experimental import jax2tf
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.exporting import tf_images
from crnn_jax.exporting.stablehlo import (
    PLATFORMS,
    width_constraint,
    with_decoder,
    without_source_paths,
)
from crnn_jax.reading.loaded_model import LoadedModel

STABLEHLO = "1.9.0"
VERSION = "1"  # TF Serving serves the folder with the highest number
WARM_WIDTHS = (32, 64, 96, 128, 160, 192, 224, 256)  # most words', as `padded_width` has them
# Limits of a call, for memory: images times the widest one's pixels (of the full network about
# 2 GB), and one image's width.
MAX_COLUMNS = 1 << 18
MAX_WIDTH = 8192
AT_ONCE = 4  # images decoded; one of 50 megapixels takes nearly a gigabyte


def write_saved_model(model: LoadedModel, folder: str, *, post: str, beam_width: int = 10) -> None:
    """Writes `folder`/1/; arguments as of `stablehlo.with_decoder`."""
    if model.preprocessing.filter != "bilinear":
        raise UserError(
            f"preprocessing.filter={model.preprocessing.filter}: a SavedModel resizes bilinearly; "
            "--format stablehlo or tflite take resized pictures"
        )
    path = os.path.join(folder, VERSION)
    extra = os.path.join(path, "assets.extra")
    with full_disk_is_user_error(folder):
        network = JaxNetwork(model, post, beam_width)
        with without_source_paths(), old_stablehlo():
            tf.saved_model.save(network, path, signatures=signatures(network))
        os.makedirs(extra)
        with tf.io.TFRecordWriter(os.path.join(extra, "tf_serving_warmup_requests")) as writer:
            for width in warm_widths(model):
                writer.write(warm_up_request(model, width))


@contextlib.contextmanager
def full_disk_is_user_error(path: str) -> Iterator[None]:
    """Turns what TensorFlow raises on a full disk into a UserError."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise UserError(f"{path}: cannot be written: {reason}") from error


def old_stablehlo() -> contextlib.AbstractContextManager[Any]:
    """Programs lowered in this context are written in a StableHLO that TensorFlow 2.20 knows.

    JAX writes what is four weeks older than itself; TensorFlow's releases are months behind that.
    """
    name = "get_version_from_compatibility_requirement"  # not public: it has no setting
    return mock.patch.object(_export.hlo, name, return_value=STABLEHLO)


class JaxNetwork(tf.Module):
    """Network and decoder by jax2tf, the parameters as `tf.Variable`s.

    Called with images uint8 [b h w c] and widths int32 [b]; sizes given as 0 are free.
    """

    def __init__(
        self, model: LoadedModel, post: str, beam_width: int = 10, batch: int = 0, width: int = 0
    ) -> None:
        super().__init__()
        self.model = model
        leaves, tree = jax.tree.flatten(model.variables)
        self.parameters = [tf.Variable(array, trainable=False) for array in leaves]
        rule, read = model.preprocessing, with_decoder(model, post, beam_width)
        sizes = f"({batch or 'b'}, {rule.height}, {width or 'w'}, {rule.channels})"
        self._converted = jax2tf.convert(
            lambda leaves, *arrays: read(jax.tree.unflatten(tree, leaves), *arrays),
            polymorphic_shapes=[None, sizes, f"({batch or 'b'},)"],
            polymorphic_constraints=[] if width else [width_constraint(model.config)],
            native_serialization_platforms=PLATFORMS,
            with_gradient=False,
        )

    def __call__(self, images: Any, widths: Any) -> dict[str, Any]:
        """What `with_decoder` gives."""
        return self._converted(self.parameters, images, widths)

    def padded(self, images: Any, widths: Any) -> dict[str, Any]:
        """The same of arrays padded to a few shapes, since XLA compiles for every shape anew."""
        b, w = tf.shape(images)[0], tf.shape(images)[2]
        free = self.model.preprocessing.free_width
        more_rows = power_of_two_above(b) - b
        more_columns = (padded_width(w) if free else tf.maximum(w, 8)) - w
        images = tf.pad(images, [[0, more_rows], [0, 0], [0, more_columns], [0, 0]])
        out = self(images, tf.pad(widths, [[0, more_rows]]))
        out = {name: value[:b] for name, value in out.items()}
        longest = tf.reduce_max(out["frames"])
        return {name: x[:, :longest] if x.shape.rank > 1 else x for name, x in out.items()}


def signatures(network: JaxNetwork) -> dict[str, Any]:
    """Name -> `tf.function` with the names and shapes of its inputs, batch and width free."""
    rule = network.model.preprocessing
    shape = [None, rule.height, rule.width or None, rule.channels]
    images = tf.TensorSpec(shape, tf.uint8, name="images")
    widths = tf.TensorSpec([None], tf.int32, name="widths")
    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

    @tf.function(input_signature=[images], autograph=False)
    def of_one_width(images: Any) -> dict[str, Any]:
        return _read(network, images, tf.fill(tf.shape(images)[:1], tf.shape(images)[2]))

    @tf.function(input_signature=[images, widths], autograph=False)
    def with_widths(images: Any, widths: Any) -> dict[str, Any]:
        # A width beyond the array would have the network read columns that are not there.
        return _read(network, images, tf.clip_by_value(widths, 0, tf.shape(images)[2]))

    @tf.function(input_signature=[encoded], autograph=False)
    def of_files(image_bytes: Any) -> dict[str, Any]:
        return _read(network, *_decode(rule, image_bytes))

    return {"serving_default": of_one_width, "with_widths": with_widths, "serving_bytes": of_files}


def _decode(rule: Any, encoded: Any) -> tuple[Any, Any]:
    """Files [b] -> images uint8 [b h w c] and widths int32 [b], 0 for an unreadable one."""
    b = tf.size(encoded)
    most = MAX_COLUMNS // (rule.width or rule.min_width)
    with _required((b <= most, [f"at most {most} pictures a call, not", b])):
        encoded = tf.reshape(encoded, [-1])

    def read(index: Any, data: Any) -> tuple[Any, Any, Any]:
        image = tf.cond(
            index < b,
            lambda: tf_images.resize(tf_images.decode_image(data, rule.channels), rule),
            lambda: tf.zeros([rule.height, 1, rule.channels], tf.uint8),
        )
        return index, image, tf.shape(image)[1]

    # A dataset, because it can skip what raises an error; nothing else in a graph can. The last
    # element, an empty image, is there even if all others are skipped.
    given = (tf.range(b + 1), tf.concat([encoded, [b""]], axis=0))
    data = tf.data.Dataset.from_tensor_slices(given)
    data = data.map(read, num_parallel_calls=AT_ONCE, deterministic=True).ignore_errors()
    shape = [rule.height, None, rule.channels]
    data = data.padded_batch(tf.cast(b + 1, tf.int64), ([], shape, []))
    index, images, widths = data.get_single_element()
    places = index[:-1, None]
    images = tf.scatter_nd(places, images[:-1], tf.concat([[b], tf.shape(images)[1:]], axis=0))
    return tf.ensure_shape(images, [None, *shape]), tf.scatter_nd(places, widths[:-1], [b])


def _read(network: JaxNetwork, images: Any, widths: Any) -> dict[str, Any]:
    """The outputs of all signatures."""
    rule = network.model.preprocessing
    b, height, width = tf.unstack(tf.shape(images)[:3])
    widest = max(MAX_WIDTH, rule.max_width)
    with _required(
        (b >= 1, ["at least one picture is wanted"]),
        (height == rule.height, [f"pictures {rule.height} pixels high, not", height]),
        (width <= widest, [f"pictures at most {widest} pixels wide, not", width]),
        (b * width <= MAX_COLUMNS, [f"at most {MAX_COLUMNS} columns a call, not", b, width]),
        (tf.size(widths) == b, ["as many widths as pictures:", b, tf.size(widths)]),
    ):
        images = tf.identity(images)
    out = network.padded(images, widths)
    if "ids" in out:
        out["text"] = texts(out["ids"], network.model.symbols)
        out["confidence"] = tf.where(out["frames"] > 0, out["confidence"], 0.0)
    return out


def _required(*conditions: tuple[Any, list[Any]]) -> Any:
    """A context whose operations run only if all conditions hold; else an error with the words."""
    return tf.control_dependencies([tf.debugging.Assert(*condition) for condition in conditions])


def texts(ids: Any, symbols: list[str]) -> Any:
    """UTF-8 strings [b] of class ids [b n]; -1 writes nothing."""
    return tf.strings.reduce_join(tf.gather(tf.constant(["", *symbols]), ids + 1), axis=-1)


def power_of_two_above(n: Any) -> Any:
    """int32 scalar >= 1 -> the next power of two."""
    n = n - 1
    for shift in (1, 2, 4, 8, 16):
        n = tf.bitwise.bitwise_or(n, tf.bitwise.right_shift(n, shift))
    return n + 1


def padded_width(width: Any) -> Any:
    """int32 scalar -> `reading.pictures.padded_width` of it, in TensorFlow operations."""
    step = tf.maximum(32, power_of_two_above(tf.maximum(-(-width // 8), 1)))
    return tf.maximum(-(-width // step), 1) * step


def warm_widths(model: LoadedModel) -> list[int]:
    """Widths in pixels to compile for before the first request."""
    rule = model.preprocessing
    if rule.width:
        return [rule.width]
    return [w for w in WARM_WIDTHS if rule.min_width <= w <= rule.max_width] or [rule.min_width]


def warm_up_request(model: LoadedModel, width: int) -> bytes:
    """A serialized PredictionLog of TF Serving: one white image for `serving_bytes`.

    Encoded here: the package with its message classes requires one version of TensorFlow.
    """
    image = io.BytesIO()
    Image.new("L", (width, model.preprocessing.height), 255).save(image, "png")
    tensor = tf.make_tensor_proto([image.getvalue()], tf.string, [1])
    entry = _field(1, b"image_bytes") + _field(2, tensor.SerializeToString())
    model_spec = _field(1, b"default") + _field(3, b"serving_bytes")
    request = _field(1, model_spec) + _field(2, entry)  # PredictRequest: model_spec, inputs
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    size, length = len(content), bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content
