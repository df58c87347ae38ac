"""What TensorBoard is given beside scalars."""

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.pictures import RIGHT, WRONG, Sample, sheet
from crnn_jax.training.profile import Profile


def _has(picture, colour):
    return bool((np.abs(picture.astype(int) - colour).sum(-1) < 30).any())


def test_a_right_reading_is_not_shown_as_a_wrong_one():
    image = np.zeros((32, 90, 1), np.uint8)
    right, wrong = (sheet([Sample(image, "abc", text)]) for text in ("abc", "abd"))
    assert _has(right, RIGHT)
    assert not _has(right, WRONG)
    assert _has(wrong, WRONG)
    assert not _has(wrong, RIGHT)
    assert sheet([]).shape == (64, 960, 3)
    assert sheet([Sample(image, "a", "")] * 4).shape == (128, 960, 3)


def test_a_run_writes_pictures_histograms_and_a_trace(config, tmp_path):
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with config.unlocked():
        config.steps = 4
        config.evaluation.every_steps = 2
        config.log.every_steps = 2
        config.log.tensorboard = True
        config.log.pictures = 5
        config.log.histograms = True
        config.log.profile = (1, 3)
    train_and_evaluate(config, str(tmp_path / "run"))
    folder = tmp_path / "run" / "tensorboard"
    size = {"images": 0, "histograms": 0, "scalars": 0}
    events = tensorboard.EventAccumulator(str(folder), size).Reload()
    (name,) = events.Tags()["images"]
    assert name.startswith("validation/")
    assert [image.step for image in events.Images(name)] == [2, 4]
    assert events.Images(name)[0].height == 2 * 64  # 5 pictures in rows of 3
    assert "params/logits/bias" in events.Tags()["histograms"]
    assert {"train/loss", "validation/accuracy"} <= set(events.Tags()["scalars"])
    (trace,) = folder.glob("plugins/profile/*/*.xplane.pb")
    assert b"step_num" in trace.read_bytes()  # TensorBoard shows times by step


@pytest.mark.parametrize("steps", [(3,), (5, 5), (-1, 2)])
def test_a_trace_of_no_steps(steps, tmp_path):
    with pytest.raises(UserError, match=r"config\.log\.profile"):
        Profile(steps, tmp_path)
