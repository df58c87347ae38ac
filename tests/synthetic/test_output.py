"""Folders of images, from a source that draws nothing."""

import os
import signal
import tracemalloc

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.output import write_folder


class Empty:
    """Small black images with one label; `deadly` is the sample that kills its process."""

    def __init__(self, label="word", deadly=-1):
        self.label, self.deadly = label, deadly

    def text(self, i):
        return self.label

    def draw(self, i):
        if i == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros((8, 8, 1), np.uint8)


@pytest.mark.slow
def test_a_killed_worker_is_told(tmp_path):
    with pytest.raises(UserError, match="a process that draws images was killed"):
        list(write_folder(Empty(deadly=60), tmp_path / "out", 120, workers=2))


@pytest.mark.parametrize(
    ("label", "name"),
    [("a" * 199, f"1_{'a' * 199}_0.jpg"), ("é" * 100, "1.jpg")],
    ids=["199 bytes", "200 bytes"],
)
def test_a_label_is_in_the_name_if_there_is_room(tmp_path, label, name):
    assert list(write_folder(Empty(label), tmp_path, 1)) == [1]
    assert (tmp_path / "labels.tsv").read_text("utf-8") == f"{name}\t{label}\n"
    assert (tmp_path / name).is_file()


def test_little_is_kept_of_images_to_come(tmp_path):
    count = 20_000
    tracemalloc.start()
    made = write_folder(Empty(), tmp_path, count)
    next(made)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / count < 150  # bytes an image: its name and label
