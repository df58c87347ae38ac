"""Every config loads, is locked, says what each key means, and has no key that nothing reads."""

import ast
import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flax.traverse_util import flatten_dict

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def load(name: str) -> Any:
    return importlib.import_module(f"configs.{name}").get_config()


def flat(config: Any) -> dict[str, Any]:
    """Key -> value, with the sections' names before it: `optimizer.name`."""
    return flatten_dict(config.to_dict(), sep=".")


def assignments(text: str) -> dict[str, bool]:
    """Key that the text assigns -> is there a comment on its line or on the line above?

    Sections are variables of their own name: `config.model = model = ConfigDict()`.
    """
    found: dict[str, bool] = {}
    for above, line in itertools.pairwise(["", *text.split("\n")]):
        if match := re.match(r"\s*(?:config\.)?([\w.]+) = ", line):
            found[match[1]] = "#" in line or above.lstrip().startswith("#")
    return found


def reads(text: str) -> Iterator[tuple[str, str]]:
    """`X.section.key` and the like in a module: pairs of (the name left of the dot, key).

    A variable that was assigned a section (`wanted = config.preprocessing`) counts as that section.
    """
    tree = ast.parse(text)
    sections: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    sections.setdefault(target.id, set()).add(node.value.attr)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            left = ast.unparse(node.value).rpartition(".")[2]
            for name in (left, *sections.get(left, ())):
                yield name, node.attr


def is_read(key: str, pairs: set[tuple[str, str]]) -> bool:
    """Read under its section's name, or as `config.key` by a function that is given the section."""
    section, _, leaf = key.rpartition(".")
    return bool({("config", leaf), (section.rpartition(".")[2], leaf)} & pairs)


@pytest.fixture(scope="module")
def package_reads() -> set[tuple[str, str]]:
    # models/ has a `config` of its own, the ModelConfig.
    sources = [p for p in (ROOT / "crnn_jax").rglob("*.py") if p.parent.name != "models"]
    return {pair for path in sources for pair in reads(path.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def declared() -> dict[str, bool]:
    """Every key that any config assigns -> one of the assignments has its comment."""
    found: dict[str, bool] = {}
    for name in NAMES:
        text = (ROOT / "configs" / f"{name}.py").read_text(encoding="utf-8")
        for key, commented in assignments(text).items():
            found[key] = commented or found.get(key, False)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_config(name, declared, package_reads):
    config = load(name)
    assert config.is_locked  # a misspelt --config.key is an error, not a new key
    with pytest.raises((AttributeError, KeyError)):
        config.no_such_key = 1
    keys = flat(config)
    assert [key for key, value in keys.items() if value is None] == []  # not to be overridden
    assert [key for key in keys if not declared.get(key)] == []  # with its unit or consequence
    assert [key for key in keys if not is_read(key, package_reads)] == []
    assert f"configs/{name}.py" in importlib.import_module(f"configs.{name}").__doc__


def test_configs_have_the_same_keys():
    """So that one documentation serves all, and an unlocked config gained no misspelt key."""
    keys = {name: set(flat(load(name))) for name in NAMES}
    everything = set().union(*keys.values())
    assert {name: everything - own for name, own in keys.items() if own != everything} == {}


def test_no_default_is_hidden_in_code():
    """`config.get('key', 3)` would be a second place that says what the key is."""
    hidden = re.compile(r"\bconfig\.get\(|getattr\(config,")
    paths = (ROOT / "crnn_jax").rglob("*.py")
    assert [str(p) for p in paths if hidden.search(p.read_text(encoding="utf-8"))] == []
