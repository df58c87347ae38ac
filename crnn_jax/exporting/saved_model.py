"""Writes a TensorFlow SavedModel as TF Serving wants it: OUT/1/, warm-up requests inside.

    write_saved_model(LoadedModel.open('en_36'), 'word', post='greedy')
    read = tf.saved_model.load('word/1').signatures['serving_bytes']
    read(image_bytes=tf.constant([open('a.png', 'rb').read()]))

`serving_default` takes images of one width, `with_widths` padded ones, `serving_bytes` files. The
network is jax2tf's: StableHLO in one XlaCallModule, which TensorFlow 2.20 and later load.
OUT/1/assets.extra/crnn_jax.json holds `reader_metadata`, for exports without a decoder.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import tensorflow as tf
from jax._src.export import _export
from jax.experimental import jax2tf
from PIL import Image

from crnn_jax.core.errors import UserError
from crnn_jax.core.preprocessing import MAX_WIDTH
from crnn_jax.exporting import tf_images
from crnn_jax.exporting.metadata import METADATA, reader_metadata
from crnn_jax.exporting.stablehlo import PLATFORMS, width_constraint, with_decoder
from crnn_jax.reading.loaded_model import LoadedModel
from crnn_jax.reading.pictures import padded_width

STABLEHLO = "1.9.0"
VERSION = "1"  # TF Serving serves the folder with the highest number
# XLA compiles for every shape anew: batches and widths are padded to these, and no larger ones run.
BATCHES = [1 << i for i in range(14)]
WIDTHS = sorted({padded_width(width) for width in range(32, MAX_WIDTH + 1, 32)})  # pixels
WARMEST = 256  # pixels: wider words are rare
AT_ONCE = 4  # images decoded; one of 50 megapixels takes nearly a gigabyte


def write_saved_model(model: LoadedModel, folder: str, *, post: str, beam_width: int = 10) -> None:
    """Writes `folder`/1/; arguments as of `stablehlo.with_decoder`."""
    path = os.path.join(folder, VERSION)
    extra = os.path.join(path, "assets.extra")
    with full_disk_is_user_error(folder):
        network = JaxNetwork(model, post, beam_width)
        with old_stablehlo():
            tf.saved_model.save(network, path, signatures=signatures(network))
        os.makedirs(extra)
        pathlib.Path(extra, METADATA).write_text(reader_metadata(model, post), "utf-8")
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
        """The same of arrays padded to BATCHES and WIDTHS; with a decoder also 'text'."""
        rule = self.model.preprocessing
        b, h, w = tf.unstack(tf.shape(images)[:3])
        fits = (h == rule.height) & (tf.size(widths) == b)
        tf.debugging.Assert(fits, ["shapes of images and widths do not fit:", b, h, w])
        more_rows = _next(BATCHES, b) - b
        more_columns = _next(WIDTHS if rule.free_width else [8, w], w) - w
        images = tf.pad(images, [[0, more_rows], [0, 0], [0, more_columns], [0, 0]])
        out = self(images, tf.pad(widths, [[0, more_rows]]))
        out = {name: value[:b] for name, value in out.items()}
        longest = tf.reduce_max(out["frames"])
        out = {name: x[:, :longest] if x.shape.rank > 1 else x for name, x in out.items()}
        if "ids" in out:
            symbols = tf.constant(["", *self.model.symbols])  # -1 writes nothing
            out["text"] = tf.strings.reduce_join(tf.gather(symbols, out["ids"] + 1), axis=-1)
            out["confidence"] = tf.where(out["frames"] > 0, out["confidence"], 0.0)
        return out


def signatures(network: JaxNetwork) -> dict[str, Any]:
    """Name -> `tf.function` with the names and shapes of its inputs, batch and width free."""
    rule = network.model.preprocessing
    shape = [None, rule.height, rule.width or None, rule.channels]
    images = tf.TensorSpec(shape, tf.uint8, name="images")
    widths = tf.TensorSpec([None], tf.int32, name="widths")
    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

    @tf.function(input_signature=[images], autograph=False)
    def of_one_width(images: Any) -> dict[str, Any]:
        return network.padded(images, tf.fill(tf.shape(images)[:1], tf.shape(images)[2]))

    @tf.function(input_signature=[images, widths], autograph=False)
    def with_widths(images: Any, widths: Any) -> dict[str, Any]:
        # A width beyond the array would have the network read columns that are not there.
        return network.padded(images, tf.clip_by_value(widths, 0, tf.shape(images)[2]))

    @tf.function(input_signature=[encoded], autograph=False)
    def of_files(image_bytes: Any) -> dict[str, Any]:
        return network.padded(*_decode(rule, image_bytes))

    return {"serving_default": of_one_width, "with_widths": with_widths, "serving_bytes": of_files}


def _decode(rule: Any, encoded: Any) -> tuple[Any, Any]:
    """Files [b] -> images uint8 [b h w c] and widths int32 [b], 0 for an unreadable one."""
    b = tf.size(encoded)

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


def _next(sizes: list[Any], n: Any) -> Any:
    """int32 scalar: the smallest of rising `sizes` that is not below `n`; an error beyond them."""
    return tf.gather(sizes, tf.searchsorted(sizes, [n])[0])


def warm_widths(model: LoadedModel) -> list[int]:
    """Widths in pixels to compile for before the first request."""
    rule = model.preprocessing
    most = min(rule.max_width, WARMEST)
    usual = [width for width in WIDTHS if rule.min_width <= width <= most]
    return [rule.width] if rule.width else usual or [rule.min_width]


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
