"""A data set of rendered digits and a config for runs of seconds."""

import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from configs import tiny
from crnn_jax.training import experiment
from crnn_jax.training.logging import TIMES
from crnn_jax.training.parallel import Parallel
from crnn_jax.training.state import init_variables

CHARACTERS = "0123456789"


def read_rows(workdir):
    """metrics.jsonl without what two runs of the same numbers differ in."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def read_summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.fixture(scope="session", autouse=True)
def quick_runs():
    """Runs compile for one device (test_step.py has several) and trace a network's init once."""
    init = Parallel.__init__
    first = functools.cache(lambda model, seed: jax.device_get(init_variables(model, seed)))

    def on_one(self, mode, devices=None):
        init(self, mode, devices or jax.devices()[:1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parallel, "__init__", on_one)
        patch.setattr(experiment, "init_variables", lambda *a: jax.tree.map(np.copy, first(*a)))
        yield


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """An annotation file with 40 images of one to four digits, 32 high, 40 to 90 wide."""
    folder = tmp_path_factory.mktemp("digits")
    font = ImageFont.load_default(24)
    lines = []
    for i in range(40):
        text = str(i * i * 7 % (10 ** (1 + i % 4)))
        image = Image.new("L", (40 + 50 * (i % 4) // 3, 32), 255)
        ImageDraw.Draw(image).text((3, 2), text, font=font, fill=0)
        image.save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{text}\n")
    path = folder / "labels.tsv"
    path.write_text("".join(lines))
    # For validation: the last ten have labels that are not trained on.
    new = [line.replace("\t", "\t00") for line in lines[30:]]
    (folder / "validation.tsv").write_text("".join(lines[:30] + new))
    return path


@pytest.fixture(scope="session")
def digits_config(digits):
    """Makes configs/tiny.py on the digits: 5 batches of 8 an epoch, 12 steps."""

    def make():
        config = tiny.get_config()
        with config.unlocked():
            config.steps = 12
            config.data.train = str(digits)
            config.data.validation = str(digits.with_name("validation.tsv"))
            config.data.cache = False
            config.data.bucket_boundaries = (64,)  # one shape: compiling is most of the tests' time
            config.preprocessing.width = 64
            config.model.convolution = "xla"
            config.charset.table = ""
            config.charset.characters = CHARACTERS
            config.charset.ignore_case = False
            config.optimizer.ema_decay = 0.9
            config.checkpoint.every_steps = 12
            config.evaluation.every_steps = 6
            config.log.every_steps = 3
        return config

    return make


@pytest.fixture
def config(digits_config):
    return digits_config()


@pytest.fixture
def change(config):
    """Sets keys of the config: change({'optimizer.ema_decay': 0.5})."""

    def change(values):
        with config.unlocked():
            for key, value in values.items():
                *sections, name = key.split(".")
                holder = config[sections[0]] if sections else config
                holder[name] = value
        return config

    return change
