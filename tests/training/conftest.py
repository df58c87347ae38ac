"""A data set of rendered digits and a config for runs of seconds."""

import pytest
from PIL import Image, ImageDraw, ImageFont

from configs import tiny

CHARACTERS = "0123456789"


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """An annotation file with 40 pictures of one to four digits, 32 high, 40 to 90 wide."""
    folder = tmp_path_factory.mktemp("digits")
    font = ImageFont.load_default(24)
    lines = []
    for i in range(40):
        text = str(i * i * 7 % (10 ** (1 + i % 4)))
        picture = Image.new("L", (40 + 50 * (i % 4) // 3, 32), 255)
        ImageDraw.Draw(picture).text((3, 2), text, font=font, fill=0)
        picture.save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{text}\n")
    path = folder / "labels.tsv"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def digits_config(digits):
    """Makes configs/tiny.py on the digits: 5 batches of 8 an epoch, 12 steps."""

    def make():
        config = tiny.get_config()
        with config.unlocked():
            config.steps = 12
            config.data.train = str(digits)
            config.data.validation = str(digits)
            config.data.cache = False
            config.data.boundaries = ()  # one shape: compiling is most of these tests' time
            config.preprocessing.width = 64
            config.charset.table = ""
            config.charset.characters = CHARACTERS
            config.charset.ignore_case = False
            config.optimizer.ema = 0.9
            config.checkpoint.every_steps = 4
            config.evaluation.every_steps = 6
            config.log.every_steps = 3
        return config

    return make


@pytest.fixture
def config(digits_config):
    return digits_config()
