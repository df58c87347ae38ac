"""Every command that README and docs show is run here, or at least read by its real parser.

Quick ones are run as they stand, in a folder with rendered pictures and with a tiny network in
place of the one that ships. README's way from pictures to a TFLite file is run by
tests/test_front_door.py, the formats of `export` by tests/test_export.py and tests/exporting.
"""

import importlib
import importlib.metadata
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from crnn_jax import cli, settings
from tests.testdata.tiny_model import write_tiny_model
from tests.training.conftest import digits  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# ml_collections loads config files in a way that Python is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

RUN = {"check", "demo", "evaluate", "language_model", "shards", "synthesize"}
# What stands for a user's own -> what it is in the folder where commands are run.
OWN = {
    "IMAGE_OR_FOLDER": "pictures",
    "IMAGE": "pictures/0001.png",
    "FOLDER": "pictures",
    "ANNOTATION_OR_FOLDER": "labels.txt",
    "ANNOTATION": "labels.txt",
    "FILE": "labels.txt",
    "MODEL": "model.safetensors",
    "TEXT": "words.txt",
    "--config=...": "--config=configs/words.py",
}
CALL = r"(python -m crnn_jax\.|pip |make |docker |tensorboard )"  # `so`, in a sentence
# What a command needs beside this package -> a word that has to stand in its section.
NEEDS = {
    "srun": "Slurm",
    "docker": "Docker|TF Serving",
    "curl": "TF Serving",
    "--distributed": "TPU|Slurm",
    "--coordinator": "machines",
}


class Shown(NamedTuple):
    """A command in the docs: its file, the text of its section, and its words."""

    file: str
    section: str
    words: list[str]

    def __str__(self):
        return f"{self.file}: {' '.join(self.words)}"


def shown():
    """Every line of the shell blocks, and whole commands in running text."""
    for path in DOCS:
        for section in re.split(r"(?m)^(?=#{1,3} (?!.*:$))", path.read_text(encoding="utf-8")):
            lines = re.findall(r"(?ms)^```(?:bash|sh)\n(.*?)^```", section)
            calls = (span for span in spans(section) if re.match(CALL, span))
            lines += [span for span in calls if not span.endswith(" ...")]
            for words in split("\n".join(lines)):
                yield Shown(path.name, section, words)


def spans(text):
    """What stands `so` in running text, each on one line."""
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def split(text):
    """The words of each command, which may go on behind a `\\` or inside quotes."""
    waiting = ""
    for line in text.replace("\\\n", " ").splitlines():
        waiting += line
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quotation is open
            continue
        waiting = ""
        if words:
            yield words
    assert not waiting


def ours(words):
    """(command, its arguments) of this package; None of other programs."""
    for i, word in enumerate(words):
        if word.startswith("crnn_jax.") and words[i - 1] == "-m":
            name, arguments = word.removeprefix("crnn_jax."), words[i + 1 :]
            break
        if word == "crnn-jax":
            name, arguments = words[i + 1], words[i + 2 :]
            break
    else:
        return None
    arguments = [w.removesuffix("...") if w != "--config=..." else w for w in arguments]
    return name, [OWN.get(w, w) for w in arguments if w]


SHOWN = list(shown())


@pytest.fixture(scope="session")
def prepared(digits, tmp_path_factory):  # noqa: F811
    """What the docs' commands find: labelled pictures, a model, a run, words."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "pictures").mkdir()
    lines = digits.read_text().splitlines()
    for name, label in (line.split("\t") for line in lines[:12]):
        number = f"{int(name.removesuffix('.png')):04}.png"
        shutil.copy(digits.parent / name, folder / "pictures" / number)
        for file, between in (("labels.txt", " "), ("labels.tsv", "\t"), ("test.txt", " ")):
            with (folder / file).open("a") as labels:
                labels.write(f"pictures/{number}{between}{label}\n")
    (folder / "words.txt").write_text("12\n345\n7000\n")
    (folder / "runs" / "words-labels").mkdir(parents=True)
    model = write_tiny_model(folder / "model.safetensors")
    shutil.copy(model, folder / "runs" / "words-labels")
    for name in ("configs", "example"):
        (folder / name).symlink_to(ROOT / name)
    importlib.import_module("crnn_jax.language_model").main(
        [str(folder / "words.txt"), "-o", str(folder / "words.arpa")]
    )
    return folder


@pytest.fixture
def scratch(prepared, tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("crnn_jax.reading.recognizer.SHIPPED", "model.safetensors")
    return folder


class Parsed(Exception):
    """The flags were understood."""


@pytest.mark.parametrize("command", [s for s in SHOWN if ours(s.words)], ids=str)
def test_our_commands(command, scratch, monkeypatch):
    name, arguments = ours(command.words)
    module = importlib.import_module(f"crnn_jax.{cli.COMMANDS.get(name, (name,))[0]}")
    if name == "sweep" and not any(word.startswith("--trials") for word in arguments):
        config = "from configs.words import get_config\n\n\n" + _function("configs.md", "def sweep")
        (scratch / "my_sweep.py").write_text(config)
        assert module.main([*arguments, "--dry_run"]) == 0
    elif name in RUN or "stablehlo" in arguments:
        if any(word.startswith("--config=") for word in arguments):
            arguments.append("--config.init_from=model.safetensors")
        assert not module.main(arguments)
    elif name in ("main", "train"):
        assert settings.parse(arguments).config is not None
    else:  # exports and the like: its parser reads it
        parse = cli.Parser.parse_known_args

        def stop(*args):
            _, unknown = parse(*args)
            assert unknown == []
            raise Parsed

        monkeypatch.setattr(cli.Parser, "parse_known_args", stop)
        with pytest.raises(Parsed):
            module.main(arguments)


def _function(file, start):
    text = (ROOT / "docs" / file).read_text(encoding="utf-8")
    return next(b for b in re.findall(r"```python\n(.*?)```", text, re.S) if start in b)


@pytest.mark.parametrize("command", [s for s in SHOWN if not ours(s.words)], ids=str)
def test_other_commands_name_what_there_is(command):
    program, *words = command.words
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    if program == "make":
        assert set(words) <= set(re.findall(r"(?m)^([a-z-]+):", makefile))
    elif program == "source":
        assert words == [re.findall(r"(?m)^VENV \?= (.*)", makefile)[0] + "/bin/activate"]
    elif program == "pip":
        assert words[0] == "install"
        _check_requirements(words[1:])
    elif program == "python":
        assert (ROOT / words[0]).is_file()
    elif program == "tensorboard":
        scripts = importlib.metadata.entry_points(group="console_scripts")
        assert "tensorboard" in scripts.names
    else:
        assert program in NEEDS, "run it in a test, parse it, or tell what it needs"
    for word in NEEDS.keys() & set(command.words):
        assert re.search(NEEDS[word], command.section), f"say that it needs {NEEDS[word]}"


def _check_requirements(words):
    files = [w for w, flag in zip(words[1:], words, strict=False) if flag in ("-r", "-c")]
    assert all((ROOT / file).is_file() for file in files)
    extras = PROJECT["optional-dependencies"]
    known = {Requirement(r).name for rs in (PROJECT["dependencies"], *extras.values()) for r in rs}
    for word in words:
        if word not in (*files, "-r", "-c", "-e", "."):
            need = Requirement(f"crnn-jax{word[1:]}" if word.startswith(".[") else word)
            assert need.name.replace("_", "-") == "crnn-jax" or need.name in known
            assert need.extras <= set(extras)
