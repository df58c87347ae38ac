"""Writers of other libraries where a file cannot grow: one line, nothing cut short in silence.

experiments/faults/table.py tries all commands so, each in a process of its own.
"""

import numpy as np
import pytest
from PIL import Image

from crnn_jax import shards
from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.output import save_image
from tests.testdata.exports import tiny_model
from tests.testdata.full_disk import room

FULL = "cannot be written: File too large"


def test_an_image_is_not_cut_short_in_silence(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 1), np.uint8)
    with room(300), pytest.raises(UserError, match=FULL):
        save_image(tmp_path / "a.jpg", noise)


@pytest.mark.slow
def test_shards_and_a_saved_model(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from crnn_jax.exporting.saved_model import write_saved_model

    Image.new("L", (60, 20)).save(tmp_path / "word.png")
    (labels := tmp_path / "labels.tsv").write_text("word.png\tword\n" * 40)
    with room(100), pytest.raises(UserError, match=FULL):
        shards.main(["-a", str(labels), "-o", str(tmp_path / "shards")])
    model = tiny_model()
    with room(100), pytest.raises(UserError, match=FULL):
        write_saved_model(model, str(tmp_path / "word"), post="none")
