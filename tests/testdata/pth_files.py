"""PyTorch's files byte by byte, so that every one of them can be wrong."""

import zipfile

import numpy as np

PROTO, STOP = b"\x80\x02", b"."
SIX = np.arange(6, dtype="<f4").tobytes()


def text(value):
    raw = value.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw


def number(value):
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind="FloatStorage", key="0", length=6):
    parts = text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    return b"(" + parts + number(length) + b"tQ"


def tensor(block=None, offset=0, size=(2, 3), stride=(3, 1)):
    """The pickle of one tensor, as PyTorch writes it."""
    arguments = (block or storage()) + number(offset) + numbers(*size) + numbers(*stride)
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + hooks + b"tR"


def dictionary(**values):
    return PROTO + b"}" + b"".join(text(k) + v + b"s" for k, v in values.items()) + STOP


def zipped(path, pickled, blocks=None):
    blocks = {"0": SIX} if blocks is None else blocks
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, block in blocks.items():
            archive.writestr(f"archive/data/{key}", block)
    return path


def crnn_shapes():
    """Name -> shape of crnn.pytorch's tensors, of one unit a layer and three classes."""
    shapes = {}
    for i in range(7):
        side = 2 if i == 6 else 3
        shapes[f"cnn.conv{i}.weight"], shapes[f"cnn.conv{i}.bias"] = (1, 1, side, side), (1,)
        if i in (2, 4, 6):
            for role in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"cnn.batchnorm{i}.{role}"] = (1,)
    for i, before, after in ((0, 1, 1), (1, 1, 3)):
        shapes[f"rnn.{i}.embedding.weight"] = (after, 2)
        shapes[f"rnn.{i}.embedding.bias"] = (after,)
        for end in ("l0", "l0_reverse"):
            shapes[f"rnn.{i}.rnn.weight_ih_{end}"] = (4, before)
            shapes[f"rnn.{i}.rnn.weight_hh_{end}"] = (4, 1)
            shapes[f"rnn.{i}.rnn.bias_ih_{end}"] = shapes[f"rnn.{i}.rnn.bias_hh_{end}"] = (4,)
    return shapes


def crnn():
    """(pickle, storage) of such a network, all ones."""
    tensors = {
        key: tensor(storage(length=9), 0, shape, (0,) * len(shape))
        for key, shape in crnn_shapes().items()
    }
    return dictionary(**tensors), np.ones(9, "<f4").tobytes()
