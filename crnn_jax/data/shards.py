"""Any annotation file as a TFDS data set in ArrayRecord shards: a few large files to copy and read.

Records keep the annotation's order, its labels as they are written and the images' bytes: reading
them gives the batches that the files give. TFDS is imported with this module, TensorFlow never.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import FULL, UserError
from crnn_jax.core.images import NO_FILE, REASON_OF, UnreadableImage
from crnn_jax.data.files import FileSource
from crnn_jax.data.source import MISSING_LABEL, STATUS, Reasons, progress_bar

ANY = Charset.from_characters("\U0010fffd")  # labels are copied, not encoded
BY_READER = STATUS.index(MISSING_LABEL)  # from here on there is no label, whatever the characters


class Words(tfds.core.GeneratorBasedBuilder):
    """Images of words or text lines, labelled."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, source: FileSource, **options: Any) -> None:
        self._source, self.written, self.left_out = source, 0, Reasons()
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),  # the file's bytes, RGB to others
            "label": tfds.features.Text(),
            "path": tfds.features.Text(),  # as the annotation writes it
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Words and text lines: crnn_jax.shards",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # the plan shuffles; the order is the annotation's
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # there is nothing to download
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        source = self._source
        with progress_bar("images read", len(source)) as bar:
            for number in range(len(source)):
                path, label = source.line(number)
                bar.update()
                if (status := int(source.index.status[number])) >= BY_READER:
                    self.left_out.add(STATUS[status], map(source.where, [number]))
                    continue
                try:
                    image = source.content(number)
                    image = image if isinstance(image, bytes) else Path(image).read_bytes()
                except (OSError, UnreadableImage) as error:  # of a file, of a record
                    reason = getattr(error, "reason", REASON_OF.get(type(error), NO_FILE))
                    self.left_out.add(reason, map(source.where, [number]))
                else:
                    yield number, {"image": image, "label": label, "path": path}
                    self.written += 1


def write_shards(
    annotation: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: str = "auto",  # noqa: A002 (the config's own name for it)
    images: str = "",
    shards: int = 0,
) -> tuple[str, int, Reasons]:
    """Writes the samples of an annotation file, or of a folder labelled by its file names.

    Args:
        folder: TFDS's data_dir; the set comes to `folder`/words/1.0.0, which must not be there.
        shards: files to write; 0 leaves it to TFDS (by size).

    Returns:
        (path of the set, records written, files that could not be read by reason).
    """
    source = FileSource(annotation, ANY, format=format, images=images, unknown="strip")
    source.require_images()
    place = os.path.join(folder, Words.name, str(Words.VERSION))
    if os.path.exists(place):
        raise UserError(f"{place}: is there already; name another folder")
    tfds.disable_progress_bar()  # ours tells the time left
    builder = Words(source, data_dir=os.fspath(folder), file_format="array_record")
    options = tfds.download.DownloadConfig(num_shards=shards or None)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloading
            builder.download_and_prepare(download_config=options)
    except AssertionError:
        few = f"too few images ({builder.written}) for {shards} shards"
        raise UserError(f"{place}: {few}") from None
    except (OSError, RuntimeError) as error:
        # ArrayRecord says in a RuntimeError that a disk is full.
        full = (reason for reason in map(os.strerror, FULL) if reason in str(error))
        reason = next(full, getattr(error, "strerror", None))
        if reason is None:
            raise
        raise UserError(f"{place}: cannot be written: {reason}") from None
    return os.fspath(builder.data_path), builder.written, builder.left_out
