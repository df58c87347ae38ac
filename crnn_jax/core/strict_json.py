"""JSON as its standard has it: no key twice, no NaN, and nothing that breaks the reader."""

import json
import math
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Reads one value.

    Raises:
        ValueError: not JSON or not UTF-8, half a surrogate pair, a key twice, a number that is not
            finite or of thousands of digits, or nested too deeply.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
        # Half a surrogate pair may be written as an escape, but then into no file, nor be printed.
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key twice")
    return made


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]} is not finite")
    return number
