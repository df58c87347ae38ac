import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.strict_json import parse_json


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b'[{"a": {"b": 1, "b": 1}}]', "a key twice"),
        (b"[NaN]", "NaN is not finite"),
        (b"-Infinity", "-Infinity is not finite"),
        (b"1e999", "1e999 is not finite"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"1" * 5000, "digits"),
        (b'"\xff"', "utf-8"),
        (b'["\\ud800"]', "surrogates"),
        (b'{"\\ud800": 1}', "surrogates"),
        (b"{", "Expecting"),
        (b"", "Expecting"),
    ],
)
def test_what_no_file_should_hold_is_told(text, told):
    with pytest.raises(ValueError, match=told):
        parse_json(text)


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXT,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=10,
    )
)
def test_everything_else_is_what_json_says(value):
    assert parse_json(json.dumps(value)) == value
