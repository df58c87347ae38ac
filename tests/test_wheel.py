"""The wheel, installed somewhere else with its declared needs only, reads a picture.

No package is fetched: the new environment gets links to what this one has installed of the wheel's
requirements and theirs, and nothing more. TensorFlow is therefore not there, and neither is any
package that the code uses and pyproject.toml forgot.
"""

import collections
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: object, cwd: Path, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | environment
    words, pipes = [str(word) for word in command], {"capture_output": True, "text": True}
    done = subprocess.run(words, cwd=cwd, env=env, check=False, **pipes)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that installing the requirements brings, as installed here."""
    found: set[str] = set()
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        need, extra = todo.pop()
        if need.marker and not need.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(need.name)
        below = importlib.metadata.requires(name) or []
        for wanted in ["", *need.extras]:
            if (mark := f"{name}[{wanted}]") not in found:
                found.add(mark)
                todo += [(Requirement(text), wanted) for text in below]
    return {mark.partition("[")[0] for mark in found}


def link(source: Path, target: Path) -> None:
    """Links a file or folder; a folder that several distributions share becomes a real one."""
    if not target.exists():
        target.symlink_to(source)
    elif source.is_dir() and target.resolve() != source.resolve():
        if target.is_symlink():
            first = target.resolve()
            target.unlink()
            target.mkdir()
            for child in first.iterdir():
                link(child, target / child.name)
        for child in source.iterdir():
            link(child, target / child.name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built by way of the sdist, as `python -m build` and PyPI's users do.

    From a copy, with tests: setuptools leaves its build folder where it works.
    """
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("crnn_jax", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for kind in ("sdist", "wheel"):
        build = f"import setuptools.build_meta as b; print(b.build_{kind}('.'))"
        made = folder / run(sys.executable, "-c", build, cwd=folder).splitlines()[-1]
        if kind == "sdist":
            shutil.unpack_archive(made, folder, filter="data")
            folder /= made.name.removesuffix(".tar.gz")
    return made


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment that holds the wheel and its needs."""
    top = tmp_path_factory.mktemp("clean")
    venv.create(top / "venv", symlinks=True, with_pip=False)
    found = top / "venv" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(found, "-c", ask, cwd=top).strip())
    for name in closure(PROJECT["dependencies"]):
        distribution = importlib.metadata.distribution(name)
        base = Path(str(distribution.locate_file("")))
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for part in tops:
            link(base / part, site / part)
    install = [sys.executable, "-m", "pip", "--python", found, "install", "--no-deps", "--no-index"]
    run(*install, "--disable-pip-version-check", wheel, cwd=top)
    return found


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel):
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "crnn_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == here


@pytest.mark.slow
def test_the_wheel_reads_a_picture(python, tmp_path):
    picture = min((ROOT / "example" / "images").iterdir())
    shutil.copy(picture, tmp_path)
    command = [python.parent / "crnn-jax", "demo", picture.name, "--json"]
    reading = json.loads(run(*command, cwd=tmp_path, HOME=str(tmp_path)))
    assert reading["path"] == picture.name
    assert reading["text"] == picture.name.split("_")[1].lower()
    version = run(python.parent / "crnn-jax", "--version", cwd=tmp_path).split()[-1]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    # The environment is clean, or this would show nothing.
    code = (
        "import importlib.util as u, crnn_jax; absent = ['tensorflow', 'numba', 'cv2', 'pytest'];"
        "print(crnn_jax.__file__, [name for name in absent if u.find_spec(name)])"
    )
    where, _, found = run(python, "-c", code, cwd=tmp_path).strip().partition(" ")
    assert Path(where).is_relative_to(python.parents[1])
    assert found == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["main", "train"])
def test_the_wheel_alone_says_what_training_needs(python, command, tmp_path):
    words = [python.parent / "crnn-jax", command, "--config=configs/words.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = "error: No module named 'ml_collections': pip install '.[train]'\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("extra", ["", "beam", "train", "tensorflow", "export", "dev"])
def test_pins_lie_within_the_declared_ranges(extra):
    """What requirements*.txt pin, for every Python, is one case of what we declare."""
    lines = [
        line.partition("#")[0].strip()
        for file in ROOT.glob("requirements*.txt")
        for line in file.read_text().splitlines()
    ]
    pins = collections.defaultdict(set)
    for pin in map(Requirement, (line for line in lines if line and line[0] != "-")):
        pins[canonicalize_name(pin.name)].add(next(iter(pin.specifier)).version)
    pins["tensorflow"] = pins["tensorflow-cpu"]  # the same without code for GPUs
    extras = PROJECT["optional-dependencies"]
    for text in extras[extra] if extra else PROJECT["dependencies"]:
        need = Requirement(text)
        versions = pins[canonicalize_name(need.name)]
        assert versions, text
        assert versions == set(need.specifier.filter(versions)), text
