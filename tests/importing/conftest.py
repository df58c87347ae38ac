"""What tests of imported weights share."""

import pytest

from crnn_jax.importing.foreign_file import read_weights


@pytest.fixture
def in_this_process(monkeypatch):
    """Imports read their files here: hundreds of damaged ones need no process each."""
    monkeypatch.setattr("crnn_jax.importing.foreign.read_apart", read_weights)
