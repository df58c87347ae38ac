import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from crnn_jax import synthesize
from crnn_jax.core.charset import Charset
from crnn_jax.data.files import FileSource

WORDS = ["--words", "builtin", "--fonts", "builtin"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def contents(folder: Path):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_folder_as_mjsynth_has_it_that_training_reads(tmp_path, capsys):
    out = tmp_path / "words"
    assert synthesize.main(["-o", str(out), "--count", "105", *WORDS]) == 0
    assert "105 images" in capsys.readouterr().out
    lexicon = (out / "lexicon.txt").read_text("utf-8").splitlines()
    labelled = [line.split("\t") for line in (out / "labels.tsv").read_text("utf-8").splitlines()]
    lines = (out / "annotation.txt").read_text("utf-8").splitlines()
    assert len(labelled) == len(lines) == 105
    for line, (path, label) in zip(lines, labelled, strict=True):
        place, number = line.split(" ")
        assert place == f"./{path}"
        assert Path(path).name.split("_")[1:] == [label, f"{number}.jpg"]
        assert lexicon[int(number)] == label.lower()
        with Image.open(out / path) as image:
            assert (image.height, image.mode) == (31, "L")
    assert {str(Path(path).parent) for path, _ in labelled} == {"1/1", "1/2"}
    for name in ("annotation.txt", "labels.tsv"):
        source = FileSource(str(out / name), Charset.from_characters(synthesize.CHARACTERS))
        assert [source.text(i) for i in range(len(source))] == [label for _, label in labelled]
        assert source.usable.all()


def test_workers_change_nothing_and_seeds_everything(tmp_path):
    flags = ["--count", "24", "--color", "rgb", "--heights", "32-40", *WORDS]
    for name, more in (("1", []), ("2", ["--workers", "2"]), ("3", ["--seed", "3"])):
        assert synthesize.main(["-o", str(tmp_path / name), *flags, *more]) == 0
    one = contents(tmp_path / "1")
    assert one == contents(tmp_path / "2")
    assert len(one) == 27
    assert not set(one.values()) & set(contents(tmp_path / "3").values())


def wait_until(met):
    ends = time.monotonic() + 60
    while not met():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals to a group of processes")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command(tmp_path, root, stop):
    words = [sys.executable, "-m", "crnn_jax.synthesize", "-o", str(tmp_path / "out"), *WORDS]
    with open(tmp_path / "said", "w") as said:  # no pipe: workers would hold it open
        run = subprocess.Popen(
            [*words, "--count", "4000", "--workers", "2"],
            cwd=root,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    # The sixth hundred: both workers have begun.
    wait_until(lambda: any((tmp_path / "out").glob("1/6/*.jpg")))
    if stop == signal.SIGINT:  # as of Ctrl-C: to all
        os.killpg(run.pid, stop)
    else:
        run.kill()
    assert run.wait(60) == (130 if stop == signal.SIGINT else -9)
    wait_until(lambda: not running(run.pid))
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert said.endswith("interrupted\n") == (stop == signal.SIGINT)


def running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to make"),
        (["-o", "out", "--count", "0"], "--count: 0: must be"),
        (["-o", "out", "--heights", "40-32"], "--heights 40-32"),
        (["-o", "out", "--max-aspect", "-1"], "synthetic.max_aspect=-1.0"),
        (["-o", "out", "--style", "baroque"], "baroque"),
        (["-o", "out", "--words", "no/words.txt"], "no/words.txt"),
        (["-o", "full"], "not empty"),
        (["--sheet", "no/sheet.png", "--count", "1"], "sheet.png"),
    ],
)
def test_mistakes_get_one_line(run, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("here")
    code, out, err = run(synthesize, *WORDS, *flags)
    (line,) = (line for line in err if "none installed" not in line)
    assert (code, out) == (2, [])
    assert message in line
