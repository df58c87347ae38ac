"""Kills a small real run by SIGKILL again and again; it must end as if nothing had happened.

    python experiments/faults/kill.py [--kills 100] [--in_save 30] [--steps 300] [--processes 2] \
        [--saved_first] [--set data.workers=2 ...] [--json FILE]

One run is left alone. Others are killed at random moments, some of them while a checkpoint is being
written, and started again by the same command until they finish. Weights, averages, optimizer state
and metrics.jsonl (but for its times) must be equal to the last bit. A run of several processes
loses one of them at random; the others are left alone for a moment, and then ended as a scheduler
ends them. With --saved_first a process is killed only after a checkpoint of its own. For several
devices on a CPU set XLA_FLAGS=--xla_force_host_platform_device_count=4.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from crnn_jax.training.logging import TIMES  # noqa: E402

SETTINGS = ("checkpoint.every_steps=7", "log.every_steps=5", "optimizer.ema_decay=0.99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--in_save", type=int, default=30, help="of these, while saving")
    parser.add_argument("--kills_a_run", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pause", type=float, default=10.0, help="kills come within so many s")
    parser.add_argument("--processes", type=int, default=1, help="of a run")
    parser.add_argument("--saved_first", action="store_true", help="kill only what has saved")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the config")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="also write the result there")
    args = parser.parse_args()
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        command = Command(base, args)
        wanted = command.finish(base / "unbroken")
        result = {"runs": 0, "equal": 0, "kills": 0, "in_save": 0, "damaged": 0}
        while result["kills"] < args.kills:
            workdir = base / f"killed-{result['runs']}"
            for _ in range(min(args.kills_a_run, args.kills - result["kills"])):
                missing = args.in_save - result["in_save"]
                in_save = dice.random() * (args.kills - result["kills"]) < missing
                killed = command.kill(workdir, dice, in_save=in_save)
                if killed is None:
                    break  # it was quicker and has finished
                result["kills"] += 1
                result["in_save"] += killed
            got = command.finish(workdir)
            result["runs"] += 1
            result["equal"] += got == wanted
            result["damaged"] += (workdir / "log").read_text().count("is damaged")
            print(json.dumps(result), flush=True)
            if got != wanted:
                sys.exit(f"{workdir}: ended otherwise: {got[0]} instead of {wanted[0]}")
    if args.json:
        told = {"steps": args.steps, "processes": args.processes, "set": args.set}
        Path(args.json).write_text(json.dumps(result | told) + "\n")


class Command:
    """The one command that begins, goes on with and ends a run."""

    def __init__(self, base: Path, args: argparse.Namespace):
        self.pause = args.pause
        self.processes = args.processes
        self.saved_first = args.saved_first
        self.words = [
            sys.executable,
            "-m",
            "crnn_jax.main",
            f"--config={ROOT}/configs/tiny.py",
            f"--config.steps={args.steps}",
            "--config.data.validation=synthetic*0.05",
            *(f"--config.{setting}" for setting in (*SETTINGS, *args.set)),
        ]
        # Compiling is most of the time of so short a run.
        self.environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(base / "xla"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, workdir: Path) -> list[subprocess.Popen]:
        """The processes of the run, as many as it has."""
        workdir.mkdir(exist_ok=True)
        words = [*self.words, f"--workdir={workdir}"]
        if self.processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                words += [f"--coordinator=127.0.0.1:{free.getsockname()[1]}"]
            words += [f"--processes={self.processes}"]
        with (workdir / "log").open("a") as log:
            return [
                subprocess.Popen(
                    [*words, *([f"--process={i}"] if self.processes > 1 else [])],
                    cwd=ROOT,
                    env=self.environment,
                    stderr=log,
                )
                for i in range(self.processes)
            ]

    def kill(self, workdir: Path, dice: random.Random, *, in_save: bool) -> bool | None:
        """Starts, kills; whether a checkpoint was being written then (None: it had finished)."""
        since = time.time()  # what an earlier kill left half-written does not count
        runs = self.start(workdir)
        victim = dice.choice(runs)
        latest = workdir / "checkpoints" / "latest"
        while (
            self.saved_first and victim.poll() is None and not self.newer(latest, "*[0-9]", since)
        ):
            time.sleep(0.01)
        time.sleep(dice.uniform(0, self.pause))
        while in_save and victim.poll() is None and not self.newer(latest, "*.partial", since):
            time.sleep(0.001)
        if in_save:
            time.sleep(dice.uniform(0, 0.03))
        victim.send_signal(signal.SIGKILL)
        if victim.wait() == 0:
            for run in runs:
                run.wait()
            return None
        saving = self.newer(latest, "*.partial", since)
        if len(runs) > 1:
            time.sleep(dice.uniform(0, 1))  # what the others do alone must harm nothing
        for run in runs:
            run.kill()
            run.wait()
        return saving

    @staticmethod
    def newer(latest: Path, names: str, since: float) -> bool:
        """Whether a checkpoint of such a name (while written: .partial) is from after that time."""
        for found in latest.glob(names):
            with contextlib.suppress(FileNotFoundError):  # it has just been renamed or removed
                if found.stat().st_mtime > since:
                    return True
        return False

    def finish(self, workdir: Path) -> tuple:
        """Runs to the end; everything of the result that must not depend on kills."""
        codes = [run.wait() for run in self.start(workdir)]
        if any(codes):
            sys.exit((workdir / "log").read_text())
        summary = json.loads((workdir / "summary.json").read_text())
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
        return summary["weights_sha256"], state_of(workdir), json.dumps(rows)


def state_of(workdir: Path) -> str:
    """Hash of every array of the newest checkpoint: weights, averages, optimizer state."""
    code = (
        "import sys, pathlib\n"
        "from crnn_jax.reading.checkpoint import read_state\n"
        "from crnn_jax.training.logging import weights_sha256\n"
        "steps = sorted(pathlib.Path(sys.argv[1]).iterdir(), key=lambda p: int(p.name))\n"
        'print(weights_sha256(read_state(steps[-1] / "state")))'
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(workdir / "checkpoints" / "latest")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
