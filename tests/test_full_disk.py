"""Writers of other libraries where a file cannot grow: one line, nothing cut short in silence.

experiments/faults/table.py tries all commands so, each in a process of its own.
"""

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.synthetic.output import save_image
from tests.testdata.full_disk import room

FULL = "cannot be written: File too large"


def test_an_image_is_not_cut_short_in_silence(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 1), np.uint8)
    with room(300), pytest.raises(UserError, match=FULL):
        save_image(tmp_path / "a.jpg", noise)
