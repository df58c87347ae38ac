"""What a run says of itself."""

from crnn_jax.scoring.evaluation import EvaluationResult, Row
from crnn_jax.training.report import validation_lines


def _lines(*readings):
    result = EvaluationResult()
    for i, reading in enumerate(readings):
        result.add(Row(set="a", id=i, path=f"{i}.png", label="ab", text=reading, confidence=0.5))
    return list(validation_lines(7, result))


def test_the_plateau_is_named_only_while_most_readings_are_empty():
    (line,) = _lines("ab", "ac")
    assert line == ("validation at step 7: accuracy 0.5000 of 2, CER 0.2500, empty readings 0.0 %")
    assert len(_lines("ab", "")) == 1
    hint = _lines("ab", "", "")[1]
    assert "CTC plateau" in hint
