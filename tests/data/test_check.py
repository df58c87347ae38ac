import json
from types import SimpleNamespace

import numpy as np
import pytest

from crnn_jax.check import text_of
from crnn_jax.core import images
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.check import (
    CASE,
    NOT_NFC,
    ODD_SPACE,
    OTHER_LABEL,
    SAME_PATH,
    SQUEEZED,
    STRETCHED,
    inspect,
)  # fmt: skip
from crnn_jax.data.files import FileSource
from crnn_jax.data.source import EXAMPLES, NO_LABEL, TOO_LONG_FOR_WIDTH, UNKNOWN_CHARACTER
from tests.data.conftest import write_picture


def look(*annotations, rule=Preprocessing(max_width=256), **options):  # noqa: B008
    values = {"table": "", "ignore_case": False, "images": "", "format": "auto", "decode": -1}
    values["width"] = 0
    options = SimpleNamespace(**(values | options))
    return inspect([str(path) for path in annotations], options, rule)


def counts(found):
    return {reason: entry["count"] for reason, entry in found.items()}


@pytest.fixture
def bad(tmp_path):
    """A set with every fault there is a name for, each a different number of times."""
    rng = np.random.default_rng(0)
    for i in range(40):
        write_picture(tmp_path / f"{i}.png", 32, 64 + int(rng.integers(0, 64)), seed=i)
    lines = [f"{i}.png\tabc" for i in range(20)]
    (tmp_path / "0.png").unlink()
    data = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").write_text("no picture")
    lines[4] = "4.png\t"
    lines[5], lines[6] = "5.png\ta?c", "6.png\tab!"
    lines[7] = "7.png\t" + "ab" * 30
    lines[8] = "8.png\tABC"
    lines[9] = "9.png\te\u0301"
    lines[10], lines[11], lines[12] = "10.png\ta  b", "11.png\ta ", "12.png\ta\u00a0b"
    lines += ["13.png\tabc", "13.png\tabc", "14.png\tcab"]
    write_picture(tmp_path / "wide.png", 10, 400)
    write_picture(tmp_path / "narrow.png", 60, 20)
    lines += ["narrow.png\tabc", f"16.png\t{'abc' * 6}"]
    path = tmp_path / "bad.tsv"
    path.write_text("\n".join(lines))
    table = tmp_path / "table.txt"
    table.write_text("a\nb\nc\né\nz\n<SPACE>\n<BLK>")
    return path, table


def test_every_fault_is_named(bad):
    path, table = bad
    other = path.parent / "other.tsv"
    other.write_text("17.png\tabc\n18.png\tabc\n39.png\tbca\nwide.png\tbca\n")
    report = look(path, other, table=str(table))
    one = report["sets"][0]
    assert counts(one["unusable"]) == {
        images.MISSING: 1,
        images.DAMAGED: 1,
        images.EMPTY: 1,
        images.NO_IMAGE: 1,
        NO_LABEL: 1,
        UNKNOWN_CHARACTER: 4,  # `?`, `!`, ABC, the no-break space
        TOO_LONG_FOR_WIDTH: 1,
    }
    assert counts(one["notes"]) == {
        NOT_NFC: 1,
        ODD_SPACE: 3,
        SAME_PATH: 2,
        OTHER_LABEL: 2,  # 14 and 16
        CASE: 1,
        STRETCHED: 1,
    }
    assert counts(report["sets"][1]["notes"]) == {SQUEEZED: 1}
    assert one["trainable"] == one["samples"] - 10
    assert one["notes"][CASE]["examples"] == ["ABC"]
    characters = report["characters"]
    assert characters["unknown"] == {"A": 1, "B": 1, "C": 1, "?": 1, "!": 1, "\u00a0": 1}
    assert characters["never"] == ["z"]
    assert [shared["count"] for shared in report["overlap"]] == [2]
    assert report["label_overlap"] == {str(other): 2}
    text = "\n".join(text_of(report))
    told = (
        f"2 of 4 labels of {other} occur in {path} too",
        "18.png",
        "'?' 1",
        "never",
        "--config.data.train",
    )
    for name in (*one["unusable"], *one["notes"], *told):
        assert name in text
    seen = look(path, table=str(table), rule=Preprocessing(width=60), decode=0)
    assert counts(seen["sets"][0]["unusable"])[images.MISSING] == 1  # headers are read all the same
    narrow = look(path, table=str(table), rule=Preprocessing(width=60))
    assert narrow["label_overlap"] == {}
    assert not [line for line in text_of(narrow) if "labels of" in line]
    assert counts(narrow["sets"][0]["unusable"])[TOO_LONG_FOR_WIDTH] == 2


def test_without_a_table_one_is_proposed(bad):
    report = look(bad[0])
    assert report["characters"]["proposed"] == " !?ABCabc\u00a0é"
    assert report["characters"]["unknown"] == {}
    assert UNKNOWN_CHARACTER not in report["sets"][0]["unusable"]
    assert "charset" not in report["command"]  # the labels' characters, without being told
    folded = look(bad[0], ignore_case=True)
    assert "--config.charset.ignore_case=True" in folded["command"]
    assert folded["characters"]["proposed"] == " !?abc\u00a0é"
    assert folded["sets"][0]["notes"].keys().isdisjoint({CASE})


def test_the_characters_are_those_of_the_labels_to_be_trained_on(bad, tmp_path):
    write_picture(tmp_path / "v.png", 20, 30)
    (other := tmp_path / "other.tsv").write_text("v.png\tabX\n")
    report = look(bad[0], other)
    assert "X" not in report["characters"]["proposed"]
    assert report["characters"]["unknown"] == {"X": 1}
    assert counts(report["sets"][1]["unusable"]) == {UNKNOWN_CHARACTER: 1}
    assert any(line.startswith("  not in the labels") for line in text_of(report))


def test_the_command_has_what_the_report_was_made_with(bad, tmp_path):
    (table := tmp_path / "small.txt").write_text("a\nb\nc\n<BLK>")  # one label in 23 is ABC
    command = look(bad[0], table=str(table), width=80)["command"]
    assert "--config.preprocessing.width=80" in command
    assert "--config.charset.ignore_case=True" in command


def test_the_proposal_is_one_that_training_takes(words):
    report = look(words.path)
    proposal = report["proposal"]
    natural = [max(32, (2 * w * 32 + h) // (2 * h)) for h, w in words.sizes]
    assert proposal["max_width"] >= max(natural)
    assert proposal["boundaries"][-1] == proposal["max_width"]
    assert proposal["longest_label"] == max(map(len, words.labels))
    assert len(proposal["boundaries"]) <= 12
    assert json.loads(json.dumps(report)) == report
    share = 100 * proposal["padding"]
    assert 10 < share < 100
    (line,) = (line for line in text_of(report) if line.startswith("proposed"))
    assert f": {share:.1f} % padding in batches of 64; " in line


def test_long_lines_are_judged_at_the_width_that_training_takes(tmp_path):
    for i in range(3):
        write_picture(tmp_path / f"{i}.png", 32, 2400, seed=i)
    path = tmp_path / "lines.tsv"
    path.write_text("".join(f"{i}.png\t{'ab' * 135}\n" for i in range(3)))
    report = look(path, rule=Preprocessing())
    assert (report["sets"][0]["trainable"], report["proposal"]["max_width"]) == (3, 2400)


def test_no_command_is_proposed_that_could_only_fail(tmp_path):
    (path := tmp_path / "none.tsv").write_text("none.png\tab\n")
    assert not [line for line in text_of(look(path)) if "crnn_jax.main" in line]


def test_only_the_lines_that_are_shown_are_looked_up(tmp_path, monkeypatch):
    """Finding a line's number reads the file from its start."""
    write_picture(tmp_path / "a.png", 32, 64)
    (path := tmp_path / "odd.tsv").write_text("a.png\ta \n" * 30)
    where, asked = FileSource.where, []
    monkeypatch.setattr(FileSource, "where", lambda *of: asked.append(of) or where(*of))
    assert counts(look(path)["sets"][0]["notes"]) == {ODD_SPACE: 30, SAME_PATH: 29}
    assert len(asked) <= 2 * EXAMPLES
