"""Trains every point of a sweep and compares them.

    python -m crnn_jax.sweep --config=CONFIG [--sweep_dir=DIR] [--jobs=N] [--config.a.b=c]

The config file has, beside get_config(), a function sweep(add) that calls
add({'optimizer.learning_rate': 3e-4, 'optimizer.ema': 0.99}) for every point. Each point is a run
in a workdir of its own; the same command goes on where it was stopped. At the end: results.csv,
results.md and results.svg, best first.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from crnn_jax import cli
from crnn_jax.spec.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sweep; returns the exit code, 1 where a point failed."""
    parser = cli.Parser("sweep", __doc__)
    parser.add_argument("--config", required=True, help="config file with a function sweep(add)")
    parser.add_argument("--sweep_dir", default="", help="folder of the runs (sweeps/CONFIG)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--dry_run", action="store_true", help="only list the points")
    args, rest = parser.parse_known_args(argv)
    if wrong := [word for word in rest if not word.startswith("--config.")]:
        parser.error(f"unexpected {wrong[0]!r}; a setting of all points is --config.key=value")
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least 1")
    if not Path(args.config.partition(":")[0]).is_file():
        raise UserError(f"--config={args.config}: no such file")

    from crnn_jax import settings
    from crnn_jax.training import sweep_points, sweep_runs, sweep_table

    points = sweep_points.points_of(args.config)
    arguments = [f"--config={args.config}", *rest]
    for changes in points.values():  # a mistake in the last point is not to be found tomorrow
        settings.parse([*arguments, *sweep_points.flags_of(changes)])
    if args.dry_run:
        for name in points:
            print(name)
        return 0
    folder = Path(args.sweep_dir or f"sweeps/{Path(args.config.partition(':')[0]).stem}")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    failed = sweep_runs.run_points(points, folder, arguments, jobs=args.jobs, say=say)
    lines = sweep_table.collect(points, folder)
    if lines:
        files = sweep_table.write(lines, folder)
        print("\n".join(sweep_table.markdown(lines)))
        say(f"written: {', '.join(map(str, files))}")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
