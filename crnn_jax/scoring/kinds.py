"""What is wrong with a reading, as one word: people look at one kind of error at a time."""

from crnn_jax.scoring.metrics import edit_distance
from crnn_jax.scoring.row import Row

RIGHT = "right"
WRONG = "wrong"
CASE = "case only"
MISSING = "missing characters"
EXTRA = "extra characters"
EMPTY = "empty"
UNREADABLE = "unreadable"
KINDS = (WRONG, CASE, MISSING, EXTRA, EMPTY, UNREADABLE)  # of errors


def kind_of(row: Row) -> str:
    """The kind of a sample's error, `RIGHT` where there is none.

    MISSING and EXTRA are readings that insertions alone, or deletions alone, separate from the
    label; every other difference is WRONG.
    """
    if row.text is None:
        return UNREADABLE
    if row.text == row.label:
        return RIGHT
    if not row.text:
        return EMPTY
    if row.text.lower() == row.label.lower():
        return CASE
    distance = edit_distance(row.label, row.text)
    if distance == len(row.label) - len(row.text):
        return MISSING
    return EXTRA if distance == len(row.text) - len(row.label) else WRONG
