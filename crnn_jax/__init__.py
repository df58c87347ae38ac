"""CRNN text recognition in JAX: train on your own words, read images, deploy anywhere.

from crnn_jax import Recognizer

Recognizer.load().read(['word.png'])[0].text
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Recognizer", "__version__"]


def __getattr__(name: str) -> Any:
    # Looked up when asked for: every command imports this package before it knows its flags.
    if name == "Recognizer":
        from crnn_jax.reading.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
