"""The house's plan holds: read from the syntax tree, so that an import nobody runs is seen too."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "crnn_jax"

# Room -> the rooms it may import. Only commands, which stand at the top, import all of them.
ROOMS: dict[str, set[str]] = {"core": set()}
ROOMS["data"] = {"core"}
ROOMS["synthetic"] = {"core", "data"}
ROOMS["models"] = {"core"}
ROOMS["decoding"] = {"core", "models"}  # confidence is the loss's own sum over alignments
ROOMS["scoring"] = {"core", "data", "synthetic", "models", "decoding"}
ROOMS["reading"] = {"core", "data", "models", "decoding", "scoring"}
ROOMS["training"] = ROOMS["scoring"] | {"scoring", "reading"}
ROOMS["importing"] = {"core", "models", "reading"}
ROOMS["exporting"] = {"core", "data", "models", "decoding", "reading", "importing"}

JAX = {"jax", "jaxlib", "flax", "optax", "orbax", "chex"}
TENSORFLOW = {"tensorflow", "tensorflow_datasets", "keras", "tf_keras"}
# Room -> packages that nothing in it may import, not even inside a function.
BANNED = dict.fromkeys(("core", "data", "synthetic"), JAX) | {
    "models": TENSORFLOW,
    "decoding": TENSORFLOW,
}
# Room -> all that it may import beside the standard library and this package.
ONLY = {
    "core": {"numpy", "PIL", "safetensors"},
    "models": {"numpy", "jax", "flax", "optax"},
    "scoring": {"numpy", "PIL", "scipy", "jinja2", "matplotlib"},
}
READS_FLAGS = {"argparse", "absl", "getopt", "optparse", "click"}
# A command's own imports, before it has read its flags: these two are read by the flags themselves.
LIGHT = {"absl", "ml_collections"}
# What reading a picture does without until it is needed.
LATE = {"optax", "orbax", "numba", "ml_collections", *TENSORFLOW}

DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}


class Import(NamedTuple):
    """One imported module, by its full name."""

    name: str
    line: int
    at_start: bool  # runs when the importing module is imported

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def room(self) -> str | None:
        """`crnn_jax.data.plan` -> `data`; a module at the package's top is its own room."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


@functools.cache
def imports(path: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, *, at_start: bool) -> None:
        match node:
            case ast.Import(names=names):
                found.extend(Import(n.name, node.lineno, at_start) for n in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                # `from crnn_jax.models import ctc` names a module as often as a function.
                found.extend(Import(f"{module}.{n.name}", node.lineno, at_start) for n in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                at_start = False
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                at_start = False
        for child in ast.iter_child_nodes(node):
            visit(child, at_start=at_start)

    visit(ast.parse(path.read_text(encoding="utf-8")), at_start=True)
    return found


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the package."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(name: str) -> str | None:
    """The room a module lies in; None for one at the package's top."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else None


def breaches() -> Iterator[str]:
    """Every import and every use of flags that the plan forbids, as `file:line: what`."""
    for name, path in modules().items():
        room, where = room_of(name), path.relative_to(ROOT)
        if room is None:
            continue
        for item in imports(path):
            at = f"{where}:{item.line}: "
            allowed = {PACKAGE, *sys.stdlib_module_names, *ONLY.get(room, {item.top})}
            if (
                item.room not in {None, room, *ROOMS[room]}
                or item.top in BANNED.get(room, ())
                or item.top not in allowed
            ):
                yield f"{at}{room} imports {item.name}"
            if item.top in READS_FLAGS and not item.name.startswith("absl.logging"):
                yield f"{at}only commands read flags"
        if "sys.argv" in path.read_text(encoding="utf-8"):
            yield f"{where}: only commands read flags"


def imported_at_start(name: str, known: dict[str, Path], parents: bool = True) -> dict[str, str]:
    """Packages and modules that importing `name` imports -> the module of ours that does it.

    Importing a.b.c imports a and a.b first; without `parents` only c is followed.
    """
    seen: dict[str, str] = {}
    todo: list[str] = []

    def follow(imported: str, by: str) -> None:
        parts = imported.split(".")
        inner = [m for end in range(1, len(parts) + 1) if (m := ".".join(parts[:end])) in known]
        for module in inner if parents else inner[-1:]:
            if module not in seen:
                seen[module] = by
                todo.append(module)

    if parents:
        follow(name, name)
    else:
        todo.append(name)
    while todo:
        module = todo.pop()
        for item in imports(known[module]):
            if item.at_start and item.top == PACKAGE:
                follow(item.name, module)
            elif item.at_start:
                seen.setdefault(item.top, module)
    return seen


def commands(known: dict[str, Path]) -> list[str]:
    return [n for n in known if n.count(".") == 1 and room_of(n) is None]


def test_imports_run_one_way():
    assert list(breaches()) == []


def test_there_is_no_other_room_and_no_module_needs_itself():
    assert {p.parent.name for p in (ROOT / PACKAGE).glob("*/*.py")} <= set(ROOMS)
    known = modules()
    assert [m for m in known if m in imported_at_start(m, known, parents=False)] == []


def test_commands_import_nothing_heavy_before_their_flags_are_read():
    known = modules()
    heavy = {
        f"{command}: {top} through {by}"
        for command in commands(known)
        for top, by in imported_at_start(command, known).items()
        if not top.startswith(PACKAGE) and top not in sys.stdlib_module_names | LIGHT
    }
    assert heavy == set()


@pytest.mark.parametrize(
    ("module", "most", "late"),
    [
        ("reading.recognizer", 25, LATE),
        ("training.loop", 45, {"numba", "ml_collections", *TENSORFLOW}),
    ],
)
def test_a_reader_comes_past_few_modules_and_imports_no_library_too_early(module, most, late):
    code = f"import sys, {PACKAGE}.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    packages = {name.partition(".")[0] for name in loaded}
    assert packages >= {"jax", "flax", PACKAGE}
    assert packages & late == set()
    ours = [name for name in loaded if name.partition(".")[0] == PACKAGE]
    assert len(ours) <= most, ours


def test_configs_import_ml_collections_and_each_other():
    own = {p.stem for p in (ROOT / "configs").glob("*.py")} | {"configs"}
    wrong = [
        f"{path.name}:{item.line}: {item.name}"
        for path in (ROOT / "configs").glob("*.py")
        for item in imports(path)
        if item.top not in own | {"ml_collections"}
    ]
    assert wrong == []


def source_files() -> list[Path]:
    tops = (PACKAGE, "tests", "configs", "experiments", "example")
    return [p for top in tops for p in (ROOT / top).rglob("*.py")]


def test_files_hold_one_idea():
    files = source_files()
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    known = modules()
    short = {str(known[c].relative_to(ROOT)) for c in commands(known) if c != f"{PACKAGE}.cli"}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
    assert {name: n for name, n in lengths.items() if name in short and n >= 120} == {}
    assert [str(p) for p in files if p.stem in DRAWERS] == []
