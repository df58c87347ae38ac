import functools
import json
import pathlib
import re
import shutil

import pytest
from PIL import Image

from crnn_jax import evaluate
from crnn_jax.core.charset import Charset
from crnn_jax.data.files import FileSource
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.scoring.output import read_predictions
from tests.testdata.stores import copied
from tests.testdata.tiny_model import CHARSET, noise_pictures, write_tiny_model


@pytest.fixture(scope="module")
def data(tmp_path_factory, model):
    """An annotation file: five labels as they are read, one in upper case, three wrong samples."""
    folder = tmp_path_factory.mktemp("data")
    pictures = noise_pictures(7)
    texts = [reading.text for reading in Recognizer.load(model).read(pictures)]
    lines = []
    for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        Image.fromarray(picture).save(folder / f"{i}.png")
        label = {5: text.upper(), 6: "ßü" + text}.get(i, text)
        lines.append(f"{i}.png {label}\n")
    (folder / "broken.png").write_bytes(b"no picture")
    lines += ["broken.png abc\n", "missing.png abc\n"]
    (folder / "all.txt").write_text("".join(lines))
    (folder / "some.txt").write_text("".join(lines[:2]))
    return folder


@pytest.fixture
def call(run):
    return functools.partial(run, evaluate)


def test_every_sample_stays_in_the_denominator(call, data, model):
    code, out, _ = call("-a", data / "all.txt", "-m", model, "--json")
    assert code == 0
    (record,) = map(json.loads, out)
    assert record["set"] == str(data / "all.txt")
    assert record["count"] == 9
    assert record["accuracy"] == 6 / 9  # the model folds case
    assert record["unreadable"] == 2
    reasons = record["reasons"]
    assert reasons.pop("missing file") == reasons.pop("not an image") == 1
    assert sum(reasons.values()) == 1  # characters outside the table
    assert record["accuracy_interval"][0] < 6 / 9 < record["accuracy_interval"][1]
    assert record["by_aspect"]["unknown"]["count"] == 2  # what nothing can be read of
    assert sum(group["count"] for group in record["by_length"].values()) == 9
    assert 0 < record["calibration_error"] < 1


def test_the_same_readings_in_any_batch(call, data, model, tmp_path):
    reader, outputs = Recognizer.load(model), []
    for size in (2, 64):
        words = ("-a", data / "all.txt", "-m", model, "-b", size, "-t", "x", "-w", "100")
        code, out, err = call(*words, "-o", tmp_path / f"{size}.jsonl")
        assert (code, len(err)) == (0, 2)  # CRNN.tf2's flags are answered
        records = map(json.loads, (tmp_path / f"{size}.jsonl").read_text().splitlines())
        outputs.append((out, [(r["path"], r["text"], r["right"]) for r in records]))
    assert outputs[0] == outputs[1]
    assert outputs[0][0][1].split()[1:3] == ["9", "66.67"]
    rows = outputs[0][1]
    assert [pathlib.Path(path).name for path, _, _ in rows][:2] == ["0.png", "1.png"]
    read = [(path, text) for path, text, _ in rows if text is not None]
    alone = reader.read([path for path, _ in read])
    assert [reading.text for reading in alone] == [text for _, text in read]


def test_each_decoder_and_both(call, data, model, tmp_path):
    (tmp_path / "words.txt").write_text("zzz\nß\n")
    words = ("-a", data / "all.txt", "-m", model, "--json")
    (greedy,) = map(json.loads, call(*words)[1])
    (beam,) = map(json.loads, call(*words, "--decoder", "beam", "--beam-width", 4)[1])
    assert (greedy["decoder"], beam["decoder"]) == ("greedy", "beam")
    both = list(map(json.loads, call(*words, "--decoder", "both", "--beam-width", 4)[1]))
    assert both == [greedy, beam]
    few = ("--decoder", "both", "--lexicon", tmp_path / "words.txt", "-o", tmp_path / "rows.jsonl")
    _, out, (line,) = call(*words, *few)
    assert line.endswith("words.txt: 1 of 2 words left out: characters outside the table")
    plain, constrained = map(json.loads, out)
    assert plain == greedy
    assert constrained["accuracy"] == 0
    rows = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert {row["text"] for row in rows} == {"zzz", None}
    few = ("--decoder", "both", "--characters", "0123456789")
    assert [json.loads(line)["accuracy"] for line in call(*words, *few)[1]] == [0, 0]
    assert call(*words[:-1], "--decoder", "both")[1][0] == "greedy:"


def test_calibration_is_stored_in_a_model(call, data, model, tmp_path):
    words = ("-a", data / "all.txt", "--json")
    (before,) = map(json.loads, call(*words, "-m", model)[1])
    calibrated = tmp_path / "calibrated.safetensors"
    code, out, err = call(*words, "-m", model, "--calibrate", calibrated)
    assert code == 0
    temperature = Recognizer.load(calibrated).temperature
    assert err == [f"{calibrated}: temperature {temperature:.3f}"]
    (after,) = map(json.loads, out)
    assert after["accuracy"] == before["accuracy"]
    assert after["calibration_error"] < before["calibration_error"]
    (again,) = map(json.loads, call(*words, "-m", calibrated)[1])
    for name in ("accuracy", "calibration_error", "coverage_at_99"):
        assert again[name] == pytest.approx(after[name], rel=1e-4)


def test_a_model_is_calibrated_by_its_name(call, data, tmp_path):
    out, pictures = tmp_path / "lines", [data / f"{i}.png" for i in range(2)]
    right, wrong = Recognizer.load("lines").read(pictures)
    labels = [f"0.png\t{right.text}", f"1.png\tx{wrong.text}"]
    (data / "one.tsv").write_text("\n".join(labels))
    code, _, err = call("-a", data / "one.tsv", "-m", "lines", "--calibrate", out)
    assert (code, err) == (0, [f"{out}: temperature {Recognizer.load(out).temperature:.3f}"])


def test_a_temperature_stays_where_every_image_is_read_correctly(call, data, model, tmp_path):
    out = tmp_path / "new.safetensors"
    code, _, (line,) = call("-a", data / "some.txt", "-m", model, "--calibrate", out)
    assert (code, Recognizer.load(out).temperature) == (0, 1.0)
    assert "temperature 1.000 stays" in line


def test_each_model_of_two_has_its_own_views_unless_the_flags_say(call, data, model, tmp_path):
    stated = write_tiny_model(tmp_path / "views.safetensors", views=True)
    reader = Recognizer.load(model)
    paths = [data / f"{i}.png" for i in range(7)]
    plain, views = ([r.text for r in reader.read(paths, views=v)] for v in (False, True))
    assert plain != views
    words = ("-a", data / "all.txt", "-m", stated, "--compare", model, "-o", tmp_path / "both")
    for flags, a, b in (((), views, plain), (("--no-views",), plain, plain)):
        assert call(*words, *flags)[0] == 0
        for name, texts in (("predictions", a), ("predictions_b", b)):
            rows = read_predictions(str(tmp_path / "both" / f"{name}.tsv")).rows
            assert [row.text for row in rows] == [*texts, None, None]
    calibrated = tmp_path / "calibrated.safetensors"
    for flags, stays in (((), False), (("--views",), True)):
        call("-a", data / "all.txt", "-m", model, "--calibrate", calibrated, *flags)
        assert Recognizer.load(calibrated).views == stays
        calibrated.unlink()


def test_a_folder_of_results(call, data, model, tmp_path):
    words = ("-a", data / "all.txt", data / "some.txt", "-m", model)
    assert call(*words, "-o", tmp_path / "results")[0] == 0
    whole = json.loads((tmp_path / "results" / "result.json").read_text())
    assert [r["count"] for r in whole["sets"]] == [9, 2, 11]
    assert "| combined | 11 |" in (tmp_path / "results" / "result.md").read_text()
    assert len((tmp_path / "results" / "predictions.tsv").read_text().splitlines()) == 12


def test_two_models_on_the_same_samples(call, data, model, tmp_path):
    """B is the same network with characters in another order: it reads nothing right."""
    turned = Charset.from_characters("zyxwvutsrqponmlkjihgfedcba9876543210", ignore_case=True)
    other = write_tiny_model(tmp_path / "b.safetensors", turned)
    words = ("-a", data / "all.txt", "-m", model)
    code, out, _ = call(*words, "--compare", other, "--json", "-o", tmp_path / "a")
    assert code == 0
    compared = json.loads(out[1])
    assert compared["compare"] == [other]
    (record,) = compared["sets"]
    accuracy = record["accuracy"]
    assert (accuracy["both"], accuracy["only_a"], accuracy["only_b"]) == (0, 6, 0)
    assert (accuracy["difference"], accuracy["mcnemar_p"]) == (-6 / 9, 2 / 2**6)
    # The same from files: of both, and of one beside a model.
    assert call("-a", data / "all.txt", "-m", other, "-o", tmp_path / "b")[0] == 0
    for b in (tmp_path / "b", tmp_path / "a" / "predictions_b.tsv"):
        code, (line,), _ = call("--compare", tmp_path / "a" / "predictions.tsv", b, "--json")
        assert code == 0
        assert json.loads(line)["sets"] == compared["sets"]
    again = call(*words, "--compare", tmp_path / "b", "--json")[1]
    assert json.loads(again[1])["sets"] == compared["sets"]
    # In the folder of a run the model counts, not what an earlier one of it read.
    shutil.copy(model, tmp_path / "b" / "model.safetensors")
    _, lines, _ = call(*words, "--compare", tmp_path / "b", "--json")
    assert json.loads(lines[1])["sets"][0]["accuracy"]["both"] == 6
    (tmp_path / "b" / "model.safetensors").unlink()
    _, out, _ = call("--compare", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "c")
    assert out[1].split()[1:6] == ["exact", "0", "6", "0", "3"]
    assert "McNemar" in (tmp_path / "c" / "result.md").read_text()


def test_other_samples_to_compare_with_lose_no_result(call, data, model, tmp_path):
    words = ("-a", data / "all.txt", "-m", model, "-o", tmp_path / "a")
    assert call(*words[:-2], "-a", data / "some.txt", "-o", tmp_path / "b")[0] == 0
    code, _, err = call(*words, "--compare", tmp_path / "b")
    assert (code, "not the same samples" in err[-1]) == (2, True)
    assert len(read_predictions(str(tmp_path / "a")).rows) == 9


def test_a_report(call, data, model, tmp_path):
    words = ("-a", data / "all.txt", "-m", model, "--compare", model)
    code, _, err = call(*words, "--report", tmp_path / "new" / "v1.2")
    file = tmp_path / "new" / "v1.2" / "report.html"
    assert (code, err[-1:]) == (0, [f"report: {file}"])
    text = file.read_text()
    assert "McNemar" in text
    assert text.count("<article") == 3  # every mistake has its card
    reading = Recognizer.load(model).read(data / "6.png")[0]
    card = next(c for c in text.split("<article") if "6.png" in c)
    assert card.count('class="chip') == card.count('class="span"') == len(reading.characters)
    assert card.count("<image") == 1


@pytest.mark.parametrize("kind", ["lmdb", "array_record"])
def test_a_report_on_a_part_of_a_store_shows_its_pictures(call, data, model, tmp_path, kind):
    lines = (data / "all.txt").read_text().splitlines()[:5]
    (tmp_path / "wrong.txt").write_text("".join(f"{line}x\n" for line in lines))
    path = copied(kind, FileSource(tmp_path / "wrong.txt", CHARSET, images=data), tmp_path / "s")
    assert call("-a", path, "-m", model, "--report", tmp_path, "--split", "1/2")[0] == 0
    text = (tmp_path / "report.html").read_text()
    assert text.count("<article") == text.count("<image") == 2
    assert 'class="span"' in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-m M", "--annotation"),
        ("-a D/none.txt -m M", "none.txt"),
        ("-a D/all.txt -m D/none", "none: no such model file"),
        ("-a D/all.txt -m M --format x", "format"),
        ("-a D/all.txt -m M --images D/no", "no such folder"),
        ("-a D/all.txt -m M --decoder magic", "greedy, beam, both"),
        ("-a D/all.txt -m M --lm D/all.txt", "--lm"),
        ("-a D/all.txt -m M --calibrate D/all.txt", "another file"),
        ("-a D/all.txt -m M --calibrate D/n/x.safetensors", "cannot be written"),
        ("-a D/all.txt -m M --calibrate D", "Is a directory"),
        ("-a D/all.txt -m M -b 0", "at least 1"),
        ("-a D/all.txt -m M --beam-width 4", "--beam-width goes with --decoder beam"),
        ("-a D/all.txt -m M --decoder beam --top-paths 2", "--top-paths: "),
        ("-a D/all.txt -m M --decoder beam --lm-weight 1", "--lm-weight goes with --lm"),
        ("-a D/all.txt -m M -o D/n/x.tsv", "cannot be written"),
        ("-a D/all.txt -m M --compare D/x.tsv", "cannot be read"),
        ("-a D/all.txt -m M --compare M M", "give one model"),
        ("--compare M", "which samples"),
        ("--compare M M --split 10%", "--split needs images"),
        ("--compare M M -m M", "--model needs images"),
        ("--compare M M --no-views", "--views needs images"),
        ("--compare M M --decoder beam", "--decoder needs images"),
        ("-a D/all.txt -m M --report D/0.png", "cannot be written"),
        ("--compare M D/all.txt", "not UTF-8"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(call, data, model, words, message):
    names = {"D": str(data), "M": model}
    words = [re.sub(r"^[DM]\b", lambda m: names[m[0]], word) for word in words.split()]
    code, out, (line,) = call(*words)
    assert (code, out) == (2, [])
    assert message in line
