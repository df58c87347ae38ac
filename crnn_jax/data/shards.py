"""Any annotation file as ArrayRecord shards: a few large files to copy and read.

Records keep the annotation's order, its labels as written and the images' bytes: reading them
gives the batches that the files give.
"""

import os
import shutil
from pathlib import Path

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import NO_FILE, REASON_OF
from crnn_jax.data.files import FileSource
from crnn_jax.data.records import IMAGE, LABELS, PATH, example, require
from crnn_jax.data.source import Reasons, progress_bar

ANY = Charset.from_characters("\U0010fffd")  # labels are copied, not encoded
SAMPLES = 100_000  # of a shard


def write_shards(
    annotation: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: str = "auto",  # noqa: A002 (the config's own name for it)
    images: str = "",
    shards: int = 0,
) -> tuple[int, Reasons]:
    """Writes the samples of an annotation file, or of a folder labelled by its file names.

    Args:
        folder: a new one; it appears once all is written.
        shards: how many files; 0 for one per `SAMPLES`.

    Returns:
        (records written, files that could not be read by reason).
    """
    writers = require(str(annotation), "ArrayRecord", "array_record.python.array_record_module")
    source = FileSource(annotation, ANY, format=format, images=images, unknown="strip")
    source.require_pictures()
    if os.path.exists(folder):
        raise UserError(f"{folder}: is there already; name another folder")
    parts = np.array_split(np.arange(len(source)), shards or 1 + len(source) // SAMPLES)
    written, left_out, place = 0, Reasons(), f"{folder}.tmp"
    shutil.rmtree(place, ignore_errors=True)
    try:
        os.makedirs(place)
        with progress_bar("images read", len(source)) as bar:
            for k, part in enumerate(parts):
                name = f"words-train.array_record-{k:05}-of-{len(parts):05}"
                writer = writers.ArrayRecordWriter(os.path.join(place, name), "group_size:1")
                for i in part.tolist():
                    bar.update()
                    try:
                        image = Path(source.identity(i)).read_bytes()
                    except OSError as error:
                        left_out.add(REASON_OF.get(type(error), NO_FILE), [source.where(i)])
                        continue
                    path, label = source.line(i)
                    features = {IMAGE: image, LABELS[0]: label.encode(), PATH: path.encode()}
                    writer.write(example(features))
                    written += 1
                writer.close()
        os.rename(place, folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: ArrayRecord's, of a full disk too
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: cannot be written: {reason}") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return written, left_out
