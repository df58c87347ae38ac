"""CRNN text recognition in JAX: train on your own words, read images, deploy anywhere.

from crnn_jax import Recognizer

Recognizer.load().read(['word.png'])[0].text
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crnn_jax.reading.recognizer import Reading, Recognizer

__version__ = "0.1.0"
__all__ = ["Reading", "Recognizer", "__version__"]


def __getattr__(name: str) -> Any:
    # Looked up when asked for: every command imports this package before it knows its flags.
    if name in ("Reading", "Recognizer"):
        from crnn_jax.reading import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
