"""What a reader answers for one picture."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Character:
    """One character of a reading.

    Attributes:
        text: the character.
        confidence: its highest probability among the frames that wrote it, 0 to 1.
        x0, x1: it covers the columns [x0, x1), in pixels of the picture as given, after EXIF
            orientation.
    """

    text: str
    confidence: float
    x0: float
    x1: float


@dataclasses.dataclass(frozen=True)
class Reading:
    """What stands in a picture, and how sure that is.

    Attributes:
        text: '' where nothing was read.
        confidence: p(text | picture) summed over all alignments, 0 to 1, calibrated by the
            model's temperature.
        characters: one entry a character of `text`; None where they were not asked for.
        alternatives: (text, log p) of other readings, best first by what the decoder goes by;
            plain greedy decoding has none.
        decoder: 'greedy' or 'beam', what gave the text.
        greedy: what greedy decoding alone reads, where both decoders were asked for.
    """

    text: str
    confidence: float
    characters: tuple[Character, ...] | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
    decoder: str = "greedy"
    greedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; numbers are rounded to what they are good for."""
        characters = [
            {
                "text": character.text,
                "confidence": round(character.confidence, 6),
                "x0": round(character.x0, 2),
                "x1": round(character.x1, 2),
            }
            for character in self.characters or ()
        ]
        beside = {} if self.greedy is None else {"greedy": self.greedy}
        return {
            "text": self.text,
            "confidence": self.confidence,
            "decoder": self.decoder,
            **beside,
            "characters": None if self.characters is None else characters,
            "alternatives": [list(alternative) for alternative in self.alternatives],
        }
