"""Labelled pictures in a store of records: LMDB or ArrayRecord instead of millions of files.

The plan, the index, the counts and the batches are those of files: a store only answers what an
annotation's line and a picture's file would.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.images import MISSING, UnreadableImage
from crnn_jax.data.encoding import LabelEncoder
from crnn_jax.data.files import PROBE, FileSource
from crnn_jax.data.formats import shown
from crnn_jax.data.records import RECORD_STATUS, Records, cached_record_index, text_of
from crnn_jax.data.source import Reasons


class RecordSource(FileSource):
    """The samples of a store; a sample's path is the store's, and the record's key.

    Args:
        records: the store.
        charset, unknown, channels, cache: as in `FileSource`.

    Raises:
        UserError: the store holds nothing.
    """

    statuses = RECORD_STATUS

    def __init__(
        self,
        records: Records,
        charset: Charset,
        *,
        unknown: str = "unusable",
        channels: int = 1,
        cache: bool = False,
    ) -> None:
        self.records = records
        self.name = self.root = records.path
        self.charset = charset
        self.channels = channels
        self.unknown = unknown
        self.odd_names = []
        self.format = records.form
        self._asked_for_sizes = False
        self._keeps = cache
        if not len(records):
            raise UserError(f"{self.name}: no records in this {self.format} set")
        self.index = cached_record_index(records, LabelEncoder(charset, unknown), cache)

    def stamp(self) -> list[Any]:
        """Place, size and time of the store's files."""
        return self.records.stamp()

    def content(self, index: int) -> bytes:
        """The encoded picture."""
        return self.records.picture(index)

    def line(self, index: int) -> tuple[str, str]:
        """(key, label) of a record; of a label that is no text what can be shown."""
        number = int(self.index.line_offsets[index])
        return self.records.key(number), text_of(self.records.label(number))[0]

    def written_paths(self) -> Iterator[str]:
        """Those of all records."""
        return map(self.written_path, range(len(self)))

    def where(self, index: int) -> str:
        """`store/key 'label'` of a sample."""
        key, label = self.line(index)
        return f"{os.path.join(self.name, key)} {shown(label)}"

    @functools.cached_property
    def reasons(self) -> Reasons:
        """Why samples cannot be used, those included that the store has lost."""
        reasons = self.reasons_of(np.arange(len(self)))
        reasons.update(self.records.lost())
        return reasons

    @property
    def notes(self) -> Reasons:
        """Labels that were changed, and what of the store contradicts itself."""
        notes = super().notes
        notes.update(self.records.notes())
        return notes

    def require_pictures(self) -> None:
        """Raises UserError where none of the first records holds a picture's bytes."""
        for number in range(min(PROBE, len(self))):
            try:
                self.content(number)
            except UnreadableImage as error:
                if error.reason != MISSING:
                    return
            else:
                return
        raise UserError(f"{self.path(0)}: no picture in this record, nor in those behind it")
