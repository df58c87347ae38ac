r"""The network as an ONNX file, built operator by operator: no converter, and `LSTM` as one node.

    export_onnx(open_model('en_36'), 'crnn.onnx')
    session = onnxruntime.InferenceSession('crnn.onnx')
    (logits,) = session.run(None, {'images': images})  # uint8 [b 32 w c] --> float32 [b t k]

Layout 'opencv' is what `cv2.dnn.TextRecognitionModel` takes with the settings of OpenCV's own CRNN:

    reader = cv2.dnn.TextRecognitionModel('crnn.onnx')
    reader.setDecodeType('CTC-greedy')
    reader.setVocabulary(pathlib.Path('crnn_vocabulary.txt').read_text().split('\n')[:-1])
    reader.setInputParams(1 / 127.5, (100, 32), (127.5,))
    reader.recognize(grey)

Neither knows real widths: all pictures of a batch must be of one width, none of it padding.
"""

import json
import os
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.whole_file import whole_file
from crnn_jax.exporting.onnx_nodes import Graph, require_onnx
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import NORMALISED, POOLED

OPENCV_WIDTH = 100
OPENCV_MEAN = OPENCV_SCALE = 127.5  # of its own CRNN: what a program that reads one sets already

Model = tuple[dict[str, Any], dict[str, Any]]  # as `loaded_model.open_model` returns it


def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    layout: str = "standard",
    post: str = "none",
) -> list[str]:
    """Writes an ONNX file (opset 17).

    Args:
        model: what `loaded_model.open_model` returns.
        path: of the file.
        layout: 'standard': images uint8 [b, height, w, c] -> [b, t, k], batch and width free, the
            normalising inside. 'opencv': [1, 1, height, width] of (level - 127.5) / 127.5 ->
            [t, 1, k], the blank first, no `<UNK>`; width is the model's own or 100. The vocabulary
            is written beside it as `NAME_vocabulary.txt`, one character a line.
        post: 'softmax' for probabilities, output 'probabilities'; else output 'logits'.

    Returns:
        The files written. `metadata_props` of the first hold characters (a JSON list by class),
        blank_id, ignore_case and preprocessing (JSON).

    Raises:
        UserError: onnx is not installed, the file cannot be written, or a model for RGB pictures
            is to have layout 'opencv'.
    """
    require_onnx()
    variables, metadata = model
    cfg = ModelConfig.from_metadata(metadata)
    charset = Charset.from_metadata(metadata)
    if layout not in ("standard", "opencv"):
        raise UserError(f"layout {layout!r}: must be standard or opencv")
    if post not in ("none", "softmax"):
        raise UserError(f"post {post!r}: an ONNX file ends in none or softmax")
    if layout == "opencv" and cfg.channels != 1:
        raise UserError("layout opencv: OpenCV's reader takes grey pictures, this model reads RGB")
    height = metadata["preprocessing"]["height"]
    width = metadata["preprocessing"]["width"] or OPENCV_WIDTH
    classes = list(range(cfg.num_classes))
    graph = Graph()
    if layout == "opencv":
        classes = _blank_first(charset, bool(metadata.get("emit_unknown", False)))
        x = graph.input("images", np.float32, [1, 1, height, width])
        # From OpenCV's scale to levels, and from these to the network's own.
        gain = OPENCV_SCALE / cfg.scale
        x = graph.affine(x, gain, (OPENCV_MEAN - cfg.mean) / cfg.scale)
    else:
        x = graph.input("images", np.uint8, ["b", height, "w", cfg.channels])
        x = graph.affine(graph.cast(x), 1 / cfg.scale, -cfg.mean / cfg.scale)
        x = graph.transpose(x, 0, 3, 1, 2)  # --> [b, c, h, w]
    x = _network(graph, x, variables, cfg, classes)  # --> [t, b, k]
    if layout == "standard":
        x = graph.transpose(x, 1, 0, 2)  # --> [b, t, k]
    if post == "softmax":
        x = graph.node("Softmax", [x], axis=-1)
    shape = ["b", "t"] if layout == "standard" else ["t", 1]
    graph.output(x, "probabilities" if post == "softmax" else "logits", [*shape, len(classes)])
    props = {
        "characters": json.dumps([charset.symbols[i] for i in classes], ensure_ascii=False),
        "blank_id": str(classes.index(charset.blank_id)),
        "ignore_case": json.dumps(charset.ignore_case),
        "preprocessing": json.dumps(metadata["preprocessing"]),
    }
    name = os.fspath(path)
    _write(name, graph.serialize("crnn", props))
    if layout == "standard":
        return [name]
    vocabulary = f"{os.path.splitext(name)[0]}_vocabulary.txt"
    text = "".join(f"{charset.symbols[i]}\n" for i in classes[1:])
    _write(vocabulary, text.encode())
    return [name, vocabulary]


def _blank_first(charset: Charset, emits_unknown: bool) -> list[int]:
    """Our classes in OpenCV's order; one that is never read is left out, its letter has no line."""
    unknown = None if emits_unknown else charset.unknown_id
    others = (i for i in range(charset.num_classes) if i not in (charset.blank_id, unknown))
    return [charset.blank_id, *others]


def _network(
    graph: Graph, x: str, variables: dict[str, Any], cfg: ModelConfig, classes: list[int]
) -> str:
    """[b, c, h, w] in the network's own scale -> logits [t, b, k] of `classes`."""
    params, stats = variables["params"], variables["batch_stats"]
    last = len(cfg.filters)
    for i in range(last):
        conv = params[f"conv{i + 1}"]
        kernel, bias = conv["kernel"], conv.get("bias")
        if i in NORMALISED:
            norm, moments = params[f"bn{i + 1}"], stats[f"bn{i + 1}"]
            gain = norm["scale"] / np.sqrt(moments["var"] + cfg.bn_epsilon)
            kernel, bias = kernel * gain, norm["bias"] - moments["mean"] * gain
        x = graph.convolution(x, kernel, bias, padding=0 if i == last - 1 else 1)
        x = graph.node("Relu", [x])
        if i in POOLED:
            _, stride = POOLED[i]
            x = graph.max_pool(x, stride, cfg.geometry)
    x = graph.squeeze(x, 2)  # [b, c, 1, t] --> [b, c, t]
    x = graph.transpose(x, 2, 0, 1)  # --> [t, b, c]
    x = graph.bi_lstm(x, params["bi_lstm1"])
    if cfg.geometry == "torch":
        x = graph.dense(x, params["projection"]["kernel"], params["projection"]["bias"])
    x = graph.bi_lstm(x, params["bi_lstm2"])
    logits = params["logits"]
    return graph.dense(x, logits["kernel"][:, classes], logits["bias"][classes])


def _write(path: str, content: bytes) -> None:
    with whole_file(path, "wb") as file:
        file.write(content)
