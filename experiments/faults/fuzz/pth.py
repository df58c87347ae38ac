"""Fuzzes the reader of PyTorch's files, up to the network that becomes of them; see target.py.

An input's first byte says what the rest is: a file, or the pickle in a sound archive, whose own
checksum would stop most changes; of a whole network, or of some tensors, which is faster.
"""

from target import fuzz, scratch_file


def one_input(data):
    from crnn_jax.importing.network import assemble
    from crnn_jax.importing.torch import from_state_dict, read_pth
    from tests.testdata.pth_files import crnn, zipped

    with scratch_file(data[1:], ".pth") as path:
        if data[:1] in (b"p", b"t"):
            zipped(path, data[1:], {"0": crnn()[1]})
        tensors = read_pth(path)
    if data[:1] == b"t":
        return
    assemble(from_state_dict(tensors, "fuzz"), "fuzz")


def seeds():
    from tests.testdata.pth_files import crnn, dictionary, storage, tensor, zipped

    yield b"t" + dictionary(a=tensor(storage(length=9)), b=tensor(storage(length=9), 1))
    pickled, block = crnn()
    yield b"p" + pickled
    with scratch_file(b"", ".pth") as path:
        yield b"f" + zipped(path, pickled, {"0": block}).read_bytes()


if __name__ == "__main__":
    fuzz("pth", one_input, seeds)
