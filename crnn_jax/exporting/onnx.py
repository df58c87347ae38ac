r"""The network as an ONNX file, built operator by operator: no converter, and `LSTM` as one node.

    export_onnx(open_model('en_36'), 'crnn.onnx')
    session = onnxruntime.InferenceSession('crnn.onnx')
    (logits,) = session.run(None, {'images': images})  # uint8 [b 32 w c] --> float32 [b t k]

Layout 'opencv' is what `cv2.dnn.TextRecognitionModel` takes with the settings of OpenCV's own CRNN:

    reader = cv2.dnn.TextRecognitionModel('crnn.onnx')
    reader.setDecodeType('CTC-greedy')
    reader.setVocabulary(pathlib.Path('crnn_vocabulary.txt').read_text('utf-8').split('\n')[:-1])
    reader.setInputParams(1 / 127.5, (100, 32), (127.5,))
    reader.recognize(grey)

Neither knows real widths: all images of a batch must be of one width, without padding.
"""

import os
from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.core.geometry import STRIDES
from crnn_jax.exporting.metadata import METADATA, reader_metadata
from crnn_jax.models.config import ModelConfig
from crnn_jax.models.crnn import POOLED
from crnn_jax.reading.loaded_model import LoadedModel

OPSET, IR = 17, 9  # of 2022: old runtimes and OpenCV 4 read them
OPENCV_WIDTH = 100  # of a model with free width, as in OpenCV's own CRNN
OPENCV_MEAN = OPENCV_SCALE = 127.5  # of its own CRNN: what a program that reads one sets already

Model = tuple[dict[str, Any], dict[str, Any]]  # as `loaded_model.open_model` returns it


def export_onnx(
    model: Model,
    path: str | os.PathLike[str],
    *,
    layout: str = "standard",
    post: str = "none",
    width: int = 0,
) -> list[str]:
    """Writes an ONNX file (opset 17) and returns the files written.

    Args:
        model: what `loaded_model.open_model` returns.
        path: of the file. Its `metadata_props` hold `reader_metadata` as `crnn_jax.json`.
        layout: 'standard': images uint8 [b height w c] -> [b t k], batch and width free, normalised
            inside. 'opencv': [1 1 height width] of (level - 127.5) / 127.5 -> [t 1 k], the blank
            first, no `<UNK>`. The vocabulary is written beside it as `NAME_vocabulary.txt`, one
            character a line.
        post: 'softmax': output 'probabilities'; 'none': output 'logits'.
        width: of layout 'opencv', in pixels; 0: the model's own, or 100 if that is free.
    """
    graph = _Graph()
    variables, metadata = model
    loaded = LoadedModel.of(variables, metadata, "the model")
    cfg, charset, rule = loaded.config, loaded.charset, loaded.preprocessing
    opencv, changes = layout == "opencv", dict[str, Any]()
    if opencv and cfg.channels != 1:
        raise UserError("layout opencv: OpenCV's reader takes grey images, this model reads RGB")
    if opencv:
        classes = opencv_classes(loaded)
        width = width or rule.width or OPENCV_WIDTH
        changes = {"width": width, "mean": OPENCV_MEAN, "scale": OPENCV_SCALE}
        x = graph.input("images", np.float32, [1, 1, rule.height, width])
        # From OpenCV's scale to levels, and from these to the network's own.
        x = graph.affine(x, OPENCV_SCALE / cfg.scale, (OPENCV_MEAN - cfg.mean) / cfg.scale)
    else:
        classes = list(range(cfg.num_classes))
        x = graph.input("images", np.uint8, ["b", rule.height, "w", cfg.channels])
        x = graph.node("Cast", x, to=graph.onnx.TensorProto.FLOAT)
        x = graph.affine(x, 1 / cfg.scale, -cfg.mean / cfg.scale)
        x = graph.node("Transpose", x, perm=[0, 3, 1, 2])  # --> [b, c, h, w]
    x = _network(graph, x, variables, cfg, classes)  # --> [t, b, k]
    if not opencv:
        x = graph.node("Transpose", x, perm=[1, 0, 2])  # --> [b, t, k]
    if post == "softmax":
        x = graph.node("Softmax", x, axis=-1)
    output = "probabilities" if post == "softmax" else "logits"
    shape: list[Any] = ["t", 1] if opencv else ["b", "t"]
    props = {METADATA: reader_metadata(loaded, post, classes, **changes)}
    name = os.fspath(path)
    content = graph.serialize(x, output, [*shape, len(classes)], props)
    with whole_file(name, "wb") as file:
        file.write(content)
    if not opencv:
        return [name]
    vocabulary = f"{os.path.splitext(name)[0]}_vocabulary.txt"
    with whole_file(vocabulary) as file:
        file.write("".join(f"{charset.symbols[i]}\n" for i in classes[1:]))
    return [name, vocabulary]


def opencv_classes(model: LoadedModel) -> list[int]:
    """The classes of layout 'opencv': the blank first, without an `<UNK>` that is never read."""
    left_out = {model.charset.blank_id, model.unknown_id}
    others = [i for i in range(model.charset.num_classes) if i not in left_out]
    return [model.charset.blank_id, *others]


def _network(
    graph: "_Graph", x: str, variables: dict[str, Any], cfg: ModelConfig, classes: list[int]
) -> str:
    """[b c h w] in the network's own scale -> logits [t b k] of `classes`."""
    params, stats = variables["params"], variables["batch_stats"]

    def convolution(x: str, name: str, norm: str = "") -> str:
        kernel, bias = params[name]["kernel"], params[name].get("bias")
        if norm in params:
            gain = params[norm]["scale"] / np.sqrt(stats[norm]["var"] + cfg.bn_epsilon)
            kernel, bias = kernel * gain, params[norm]["bias"] - stats[norm]["mean"] * gain
        padding = 1 if len(kernel) == 3 else 0
        kernel = kernel.transpose(3, 2, 0, 1)  # --> [out, in, h, w]
        return graph.node("Conv", x, kernel, bias, pads=[padding] * 4)

    for i in range(len(cfg.filters)):
        x = graph.node("Relu", convolution(x, f"conv{i + 1}", f"bn{i + 1}"))
        if i + 1 in cfg.residual:
            y = graph.node("Relu", convolution(x, f"res{i + 1}a", f"bn_res{i + 1}"))
            x = graph.node("Relu", graph.node("Add", x, convolution(y, f"res{i + 1}b")))
        if i in POOLED:
            stride = STRIDES[cfg.geometry][POOLED[i]]
            torch = cfg.geometry == "torch"
            # At stride 2 a last odd column is a window of its own: what padding with SAME comes to.
            pads = [0, 0, 0, 0] if stride == 2 else [0, int(torch), 0, 1]
            ceil = int(stride == 2 and not torch)
            x = graph.node(
                "MaxPool", x, kernel_shape=[2, 2], strides=[2, stride], pads=pads, ceil_mode=ceil
            )
    x = graph.node("Squeeze", x, np.array([2]))  # [b, c, 1, t] --> [b, c, t]
    x = graph.node("Transpose", x, perm=[2, 0, 1])  # --> [t, b, c]
    x = _bi_lstm(graph, x, params["bi_lstm1"])
    if cfg.geometry == "torch":
        x = _dense(graph, x, **params["projection"])
    x = _bi_lstm(graph, x, params["bi_lstm2"])
    logits = params["logits"]
    return _dense(graph, x, logits["kernel"][:, classes], logits["bias"][classes])


def _dense(graph: "_Graph", x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
    return graph.node("Add", graph.node("MatMul", x, kernel), bias)


def _bi_lstm(graph: "_Graph", x: str, params: dict[str, Any]) -> str:
    """[t b d] -> [t b 2h]. ONNX's gates are i o f c, ours i f g o; of its two biases one is 0."""

    def both(role: str) -> np.ndarray:
        halves = [np.split(params[d][role], 4, axis=-1) for d in ("forward", "backward")]
        return np.stack([np.concatenate([i, o, f, g], -1) for i, f, g, o in halves])

    bias = both("bias")
    hidden = bias.shape[-1] // 4
    arrays = (both("kernel").swapaxes(1, 2), both("recurrent_kernel").swapaxes(1, 2))
    biases = np.concatenate([bias, np.zeros_like(bias)], -1)
    x = graph.node("LSTM", x, *arrays, biases, hidden_size=hidden, direction="bidirectional")
    x = graph.node("Transpose", x, perm=[0, 2, 1, 3])  # [t, 2, b, h] --> [t, b, 2, h]
    return graph.node("Reshape", x, np.array([0, 0, 2 * hidden]))


class _Graph:
    """A graph under construction; methods return the name of what they add."""

    def __init__(self) -> None:
        import onnx

        self.onnx: Any = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []

    # A free dimension is a string.
    def input(self, name: str, dtype: Any, shape: list[Any]) -> str:
        code = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(self.onnx.helper.make_tensor_value_info(name, code, shape))
        return name

    def node(self, kind: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """An operator with one output; arrays become constants, float ones float32."""
        names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        name = f"{kind.lower()}_{len(self._nodes)}"
        node = self.onnx.helper.make_node(kind, names, [name], name=name, **attributes)
        self._nodes.append(node)
        return name

    def affine(self, x: str, gain: float, offset: float) -> str:
        x = self.node("Mul", x, np.array(gain)) if gain != 1 else x
        return self.node("Add", x, np.array(offset)) if offset != 0 else x

    def serialize(self, x: str, output: str, shape: list[Any], props: dict[str, str]) -> bytes:
        """The file's bytes, after ONNX's own check; `x` becomes the float32 output."""
        helper = self.onnx.helper
        self._nodes.append(helper.make_node("Identity", [x], [output]))
        outputs = [helper.make_tensor_value_info(output, self.onnx.TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self._nodes, "crnn", self._inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="crnn_jax"
        )
        helper.set_model_props(model, props)
        self.onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        array = np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int64, order="C")
        self._constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name
