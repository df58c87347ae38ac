"""Samples (encoded image, label) in the stores that `data.records` reads; None is left out."""

from pathlib import Path

import lmdb
from array_record.python.array_record_module import ArrayRecordWriter


def write_lmdb(folder, samples, *, first=1, count=None, more=()):
    """The keys of deep-text-recognition-benchmark."""
    folder.mkdir(exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 24) as store, store.begin(write=True) as put:
        for number, (image, label) in enumerate(samples, first):
            if image is not None:
                put.put(b"image-%09d" % number, image)
            if label is not None:
                put.put(b"label-%09d" % number, label)
        for key, value in more:
            put.put(key, value)
        said = str(len(samples) if count is None else count)
        if said:
            put.put(b"num-samples", said.encode())
    return folder


def field(number, value):
    """A length-delimited field of a protocol buffer."""
    size, length = len(value), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def example(**features):
    """A serialized tf.train.Example of byte strings."""
    entries = b""
    for name, value in features.items():
        if value is not None:
            feature = field(1, field(1, value))
            entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def write_shards(folder, shards, name="words-train"):
    """ArrayRecord: a list of records (bytes) for every shard."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(shards):
        path = folder / f"{name}.array_record-{number:05}-of-{len(shards):05}"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in shard:
            writer.write(record)
        writer.close()
    return folder


def write_set(kind, folder, samples):
    """The samples as 'lmdb' or as one shard of 'array_record'."""
    if kind == "lmdb":
        return write_lmdb(folder, samples)
    return write_shards(folder, [[example(image=i, label=label) for i, label in samples]])


def copied(kind, source, folder):
    """The samples of a `FileSource` of files."""
    samples = [
        (Path(source.identity(i)).read_bytes(), source.line(i)[1].encode())
        for i in range(len(source))
    ]
    return write_set(kind, folder, samples)
