"""How many random mistakes in the code do the tests notice?

    git clone . SCRATCH && cd SCRATCH    # its files are changed while this runs
    pip install cosmic-ray
    python experiments/faults/mutants.py --count 200 --share 0/1 --out mutants.jsonl

Draws places in data/, models/, decoding/, training/ and reading/ by a seed, makes one of
cosmic-ray's changes at each (a comparison turned round, a number one off, a loop that does not run
...), and runs the tests: those of the file, of its room, of the commands, until one fails. A row of
the output is a mutant; rows that are there already are not made again. `--share i/n` makes every
n-th one, so that several clones work side by side; `--near`, a quick first pass, runs the nearest
tests only and writes down what they kill.
"""

import argparse
import ast
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("data", "models", "decoding", "training", "reading")
COMMANDS = ("tests/test_main.py", "tests/test_check.py", "tests/test_evaluate.py")
LONGEST = 900  # seconds that one stage of tests may take; one that hangs is noticed too

Mutant = tuple[str, tuple[int, int], str, int]  # module, place, operator, its occurrence


def mutants(path: Path) -> Iterator[Mutant]:
    """All changes of one file but those to type annotations, which change nothing that runs."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast_from_path

    nodes = list(ast_nodes(get_ast_from_path(path)))
    types = list(annotations(ast.parse(path.read_text("utf-8"))))
    for name in plugins.operator_names():
        operator = plugins.get_operator(name)
        if operator.arguments():
            continue
        places = (place for node in nodes for place in operator().mutation_positions(node))
        for occurrence, (start, _) in enumerate(places):
            if not any(low <= tuple(start) < high for low, high in types):
                yield str(path), tuple(start), name, occurrence


def annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if (kind := getattr(node, name, None)) is not None:
                yield (kind.lineno, kind.col_offset), (kind.end_lineno, kind.end_col_offset)


def draw(count: int, seed: int) -> list[Mutant]:
    """So many places, each as likely as another, and one of the changes possible at each."""
    places: dict[tuple[str, tuple[int, int]], list[Mutant]] = {}
    for room in ROOMS:
        for path in sorted(Path("crnn_jax", room).rglob("*.py")):
            for mutant in mutants(path):
                places.setdefault(mutant[:2], []).append(mutant)
    dice = random.Random(seed)
    return [dice.choice(places[place]) for place in dice.sample(sorted(places), count)]


def stages(module: str) -> list[list[str]]:
    """The tests to run, nearest first: its own and all that import it; its room's; commands'."""
    tests = near(module)
    others = [f"tests/{Path(module).parts[1]}", *(f"--ignore={path}" for path in tests)]
    return [tests, others, [path for path in COMMANDS if path not in tests]]


def near(module: str) -> list[str]:
    """Its own tests and all that import it; where there are none, those of what imports it."""
    parts = Path(module).with_suffix("").parts
    *package, name = map(re.escape, parts)
    dotted = r"\.".join(package)
    words = rf"from {dotted}\.{name} |from {dotted} import .*\b{name}\b|import {dotted}\.{name}\b"
    imported = re.compile(rf"^\s*({words})|kernels\(\"{name}\"\)", re.MULTILINE)
    own = Path("tests", *parts[1:-1], f"test_{parts[-1]}.py")
    paths = sorted(Path("tests").rglob("test_*.py"), key=lambda path: (path != own, path))
    tests = [str(p) for p in paths if p == own or imported.search(p.read_text("utf-8"))]
    if not tests:
        users = [
            p for p in sorted(Path("crnn_jax").rglob("*.py")) if imported.search(p.read_text())
        ]
        tests = list(dict.fromkeys(test for user in users for test in near(str(user))))
    return tests


def outcome(mutant: Mutant, most: int) -> tuple[str, str]:
    """What became of it in so many stages ('killed by ...' or 'survived'), and the change.

    A test kills only what it lets pass without the change: a machine where it fails anyway, or is
    too slow for it, must not make the tests look better than they are.
    """
    from cosmic_ray import mutating, plugins

    module, _, name, occurrence = mutant
    changed = ""
    for tests in filter(None, stages(module)[:most]):
        with mutating.use_mutation(Path(module), plugins.get_operator(name)(), occurrence):
            difference = subprocess.check_output(["git", "diff", "-U0", module], text=True)
            changed = "\n".join(difference.splitlines()[4:])
            killer = failing(tests)
        if killer is not None:
            if failing([killer]) is not None:
                sys.exit(f"{killer} fails without a change too")
            return f"killed by {killer}", changed
    return "survived", changed


def failing(tests: list[str]) -> str | None:
    """The first of the tests that fails, or what was to be run where that did not start or end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", *tests]
    # Bytecode of a mutant must not outlive it, in processes that a test starts neither.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=LONGEST, env=environment
        )
    except subprocess.TimeoutExpired:
        return tests[0]
    if done.returncode == 0:
        return None
    named = [
        re.match(r"(?:FAILED|ERROR) (.+?)(?: - |$)", line) for line in done.stdout.splitlines()
    ]
    return next((match[1] for match in named if match), tests[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1", help="every n-th mutant, beginning with the i-th")
    parser.add_argument("--near", action="store_true", help="leave out what survives the nearest")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    args = parser.parse_args()
    first, every = map(int, args.share.split("/"))
    done = args.out.read_text("utf-8").splitlines() if args.out.exists() else []
    known = {json.loads(line)["index"] for line in done}
    with args.out.open("a", encoding="utf-8") as out:
        for index, mutant in enumerate(draw(args.count, args.seed)):
            if index % every != first or index in known:
                continue
            began = time.perf_counter()
            result, changed = outcome(mutant, most=1 if args.near else len(stages(mutant[0])))
            seconds = round(time.perf_counter() - began, 1)
            place = f"{mutant[0]}:{mutant[1][0]}"
            print(f"{index}: {place}  {result}  ({seconds} s)", flush=True)
            if args.near and result == "survived":
                continue
            row = {"index": index, "place": place, "change": changed, "outcome": result}
            print(json.dumps({**row, "seconds": seconds}), file=out, flush=True)


if __name__ == "__main__":
    main()
