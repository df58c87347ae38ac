"""ONNX's operators for the layers of a CRNN, with our arrays turned the way ONNX wants them.

graph = Graph()
x = graph.input('images', np.float32, ['b', 1, 32, 'w'])
graph.output(graph.convolution(x, kernel, bias, padding=1), 'y', ['b', 64, 32, 'w'])
graph.serialize('net', {})
"""

from typing import Any

import numpy as np

from crnn_jax.core.errors import UserError

OPSET, IR = 17, 9  # of 2022: old runtimes and OpenCV 4 read them


def require_onnx() -> Any:
    """The package `onnx`, or a UserError that says how to get it."""
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"ONNX needs: pip install 'crnn-jax[onnx]' ({error})") from error
    return onnx


class Graph:
    """A graph under construction; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self._onnx = require_onnx()
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, dtype: Any, shape: list[Any]) -> str:
        """An input; a free dimension is a string."""
        code = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, code, shape))
        return name

    def output(self, x: str, name: str, shape: list[Any]) -> None:
        """Names a result, float32."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [x], [name]))
        code = self._onnx.TensorProto.FLOAT
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, code, shape))

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Any operator with one output."""
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(
            self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        )
        return name

    def constant(self, array: np.ndarray) -> str:
        """An array of the file."""
        name = f"constant_{len(self._constants)}"
        # (`ascontiguousarray` would make a list of one of a number.)
        array = np.asarray(array, order="C")
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def cast(self, x: str) -> str:
        """To float32."""
        return self.node("Cast", [x], to=self._onnx.TensorProto.FLOAT)

    def affine(self, x: str, gain: float, offset: float) -> str:
        """Gain * x + offset; nothing at all where that is x."""
        if gain != 1:
            x = self.node("Mul", [x, self.constant(np.array(gain, np.float32))])
        if offset != 0:
            x = self.node("Add", [x, self.constant(np.array(offset, np.float32))])
        return x

    def transpose(self, x: str, *axes: int) -> str:
        """Axes in a new order."""
        return self.node("Transpose", [x], perm=list(axes))

    def squeeze(self, x: str, axis: int) -> str:
        """Without an axis of size 1."""
        return self.node("Squeeze", [x, self.constant(np.array([axis], np.int64))])

    def convolution(self, x: str, kernel: np.ndarray, bias: Any, *, padding: int) -> str:
        """X [b i h w], kernel [h w i o], bias [o]."""
        weights = self.constant(kernel.transpose(3, 2, 0, 1).astype(np.float32))
        offset = self.constant(np.asarray(bias, np.float32))
        return self.node(
            "Conv",
            [x, weights, offset],
            kernel_shape=list(kernel.shape[:2]),
            pads=[padding] * 4,
        )

    def max_pool(self, x: str, stride: int, geometry: str) -> str:
        """Windows of 2 x 2, vertical stride 2; `models.layers` says what a geometry pads."""
        if stride == 2:
            # A last odd column is a window of its own: what padding with SAME comes to.
            return self._pool(x, stride, [0, 0, 0, 0], int(geometry == "keras"))
        return self._pool(x, stride, [0, int(geometry == "torch"), 0, 1], 0)

    def _pool(self, x: str, stride: int, pads: list[int], ceil: int) -> str:
        return self.node(
            "MaxPool", [x], kernel_shape=[2, 2], strides=[2, stride], pads=pads, ceil_mode=ceil
        )

    def bi_lstm(self, x: str, params: dict[str, Any]) -> str:
        """[t b d] -> [t b 2 h] with our parameters {'forward', 'backward'}."""
        both = [params["forward"], params["backward"]]
        hidden = both[0]["recurrent_kernel"].shape[0]
        weights = np.stack([_gates(p["kernel"]).T for p in both])
        recurrent = np.stack([_gates(p["recurrent_kernel"]).T for p in both])
        # ONNX has two biases a gate, whose sum counts.
        none = np.zeros(4 * hidden, np.float32)
        bias = np.stack([np.concatenate([_gates(p["bias"]), none]) for p in both])
        y = self.node(
            "LSTM",
            [x, *(self.constant(a) for a in (weights, recurrent, bias))],
            hidden_size=hidden,
            direction="bidirectional",
        )  # --> [t, 2, b, h]
        y = self.transpose(y, 0, 2, 1, 3)
        return self.node("Reshape", [y, self.constant(np.array([0, 0, 2 * hidden], np.int64))])

    def dense(self, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """[.. i] -> [.. o]."""
        product = self.node("MatMul", [x, self.constant(kernel)])
        return self.node("Add", [product, self.constant(bias)])

    def serialize(self, name: str, props: dict[str, str]) -> bytes:
        """The file's bytes, after ONNX's own check."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="crnn_jax"
        )
        helper.set_model_props(model, props)
        self._onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def _gates(array: np.ndarray) -> np.ndarray:
    """Our gates i f g o -> ONNX's i o f c, along the last axis."""
    i, f, g, o = np.split(np.asarray(array, np.float32), 4, axis=-1)
    return np.concatenate([i, o, f, g], -1)
