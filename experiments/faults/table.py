"""The fault table: hostile and broken input given to the commands as users run them.

    python experiments/faults/table.py [--only pth] [-o table.md]

Makes each case's files, runs its command in a fresh process that may take 240 seconds and 4 GB, and
prints the line that it answers with and its exit code. Ends with exit code 1 where one of them is
not as the case says.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments.faults.cases import annotations, disks, models, texts, training, weights  # noqa: E402
from experiments.faults.cases.case import Case  # noqa: E402

PARTS = {
    "Model files": models.cases,
    "Weights of others": weights.cases,
    "Tables, word lists, language models, styles": texts.cases,
    "Annotations, pictures, stores": annotations.cases,
    "Training": training.cases,
    "Full disks": disks.cases,
}
LONGEST = 240  # seconds; a command still at work then hangs
MEMORY = 4 << 30  # bytes; a command that asks for more fails


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("-o", "--output", type=Path, help="also write the tables there")
    args = parser.parse_args()
    written, wrong = [], 0
    for part, cases in PARTS.items():
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for case in cases(Path(folder)):
                if args.only in case.name:
                    row, as_said = outcome(case, Path(folder))
                    print(row, file=sys.stderr, flush=True)
                    rows.append(row)
                    wrong += not as_said
        if rows:
            head = ["| case | command | answer | exit |", "|---|---|---|---|"]
            written += [f"### {part}", "", *head, *rows, ""]
    print("\n".join(written))
    if args.output:
        args.output.write_text("\n".join(written))
    sys.exit(f"{wrong} not as said" if wrong else 0)


def outcome(case: Case, folder: Path) -> tuple[str, bool]:
    """The case's row, and whether it is as the case says."""
    try:
        run = subprocess.run(
            [sys.executable, "-m", f"crnn_jax.{case.arguments[0]}", *case.arguments[1:]],
            check=False,
            cwd=folder,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
            | case.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST,
            preexec_fn=lambda: limit(case),
        )
        code, said = run.returncode, run.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        code, said = None, f"no end in {LONGEST} s"
    lines = said.splitlines()
    answers = [line for line in lines if re.search(case.says, line)]
    as_said = bool(answers) and code == case.code and "Traceback" not in said
    answer = (answers or lines or [""])[-1].replace("|", r"\|").replace("`", "'").strip()
    short = answer if len(answer) <= 160 else f"{answer[:110]} ... {answer[-40:]}"
    mark = "" if as_said else f" **not as said: {case.says}, {case.code}**"
    return f"| {case.name} | {case.arguments[0]} | `{short}` | {code} |{mark}", as_said


def limit(case: Case) -> None:
    """What the process of a case may take."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (case.room, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
