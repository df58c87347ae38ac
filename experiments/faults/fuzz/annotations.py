"""Fuzzes annotation files of every format, and the table made from their labels; see target.py.

An input's first byte names the format, or leaves it to be found out.
"""

from target import fuzz, scratch_file

FORMATS = ("auto", "mjsynth", "icdar", "tsv", "simple")


def one_input(data):
    import numpy as np

    from crnn_jax.core.charset import Charset
    from crnn_jax.data.files import FileSource

    table = Charset.from_characters("ab é")
    with scratch_file(data[1:], ".txt") as path:
        source = FileSource(path, table, format=FORMATS[data[0] % len(FORMATS)] if data else "auto")
        everything = np.arange(len(source))
        # no line is lost: each is used, or counted with its reason
        assert source.reasons.total() + np.count_nonzero(source.usable) == len(source)
        ids, offsets = source.labels_of(everything)
        for i in everything.tolist():
            label = ids[offsets[i] : offsets[i + 1]].tolist()
            assert not source.usable[i] or table.decode(label) == source.text(i)
            source.where(i), source.identity(i), source.line(i)[0]
        assert source.notes.total() >= 0


def seeds():
    yield b"\0word_1.png ab\r\nb/2.png \xc3\xa9 a\n\n"
    yield b"\1./2425/1/115_aB_45484.jpg 45484\n../1_e\xcc\x81_2.jpg 2\n"
    yield b'\2word_1.png, "a \\"b"\nword_2.png, ""\n'
    yield b"\3a.png\t ab\n/b.png\tabc\n"


if __name__ == "__main__":
    fuzz("annotations", one_input, seeds)
