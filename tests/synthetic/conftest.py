"""Sources of rendered words that need no installed font, word list or user's cache."""

from types import SimpleNamespace

import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.synthetic.source import SyntheticSource

LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="session")
def make_source(tmp_path_factory):
    cache = tmp_path_factory.mktemp("glyphs")

    def make(charset=None, seed=0, **changes):
        config = {
            "style": "scene",
            "words": "builtin",
            "fonts": "builtin",
            "count": 1000,
            "heights": (32, 40),
            "max_aspect": 10.0,
            "color": "grey",
            "cache": str(cache),
        }
        charset = charset or Charset.from_characters(LETTERS, ignore_case=True)
        return SyntheticSource(SimpleNamespace(**{**config, **changes}), charset, seed)

    return make
