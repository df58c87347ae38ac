"""A set by its place: an annotation file, a folder of pictures, LMDB, or ArrayRecord shards."""

import os

from crnn_jax.core.charset import Charset
from crnn_jax.data.files import FileSource
from crnn_jax.data.lmdb_source import LmdbRecords, is_lmdb
from crnn_jax.data.record_source import RecordSource
from crnn_jax.data.records import Records
from crnn_jax.data.tfds_source import ArrayRecords, is_array_record


def open_stored(
    path: str | os.PathLike[str],
    charset: Charset,
    *,
    format: str = "auto",  # noqa: A002 (the config's own name for it)
    images: str = "",
    unknown: str = "unusable",
    channels: int = 1,
    cache: bool = False,
) -> FileSource:
    """Opens a set as what it holds: `data.mdb`, `*.array_record*`, or else files.

    Args:
        path: of the annotation file or folder; FOLDER/SPLIT for shards of several splits.
        charset, format, images, unknown, channels, cache: as in `FileSource`; a store of records
            needs neither format nor images.

    Raises:
        UserError: as the source's own.
    """
    if is_lmdb(path):
        records: Records = LmdbRecords(path)
    elif is_array_record(path):
        records = ArrayRecords(path)
    else:
        return FileSource(
            path,
            charset,
            format=format,
            images=images,
            unknown=unknown,
            channels=channels,
            cache=cache,
        )
    return RecordSource(records, charset, unknown=unknown, channels=channels, cache=cache)
