"""Trains every point of a sweep, or searches for the best, and compares them.

    python -m crnn_jax.sweep --config=CONFIG [--sweep_dir=DIR] [--jobs=N] [--config.a.b=c]
    python -m crnn_jax.sweep --config=CONFIG --trials=N [--storage=URL] ...

The config file has, beside get_config(), a function sweep(add) that calls
add({'optimizer.learning_rate': 3e-4, 'optimizer.ema': 0.99}) for every point; or, for a search by
Optuna (pip install 'crnn_jax[sweep]'), a function suggest(trial) that returns such changes, drawn
by trial.suggest_float('rate', 1e-4, 3e-3, log=True) and the like. Each point is a run in a workdir
of its own; the same command goes on where it was stopped. At the end: results.csv, results.md and
results.svg, best first.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from crnn_jax import cli
from crnn_jax.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sweep; returns the exit code, 1 where a point failed."""
    parser = cli.Parser("sweep", __doc__)
    parser.add_argument("--config", required=True, help="config file with sweep(add) or suggest")
    parser.add_argument("--sweep_dir", default="", help="folder of the runs (sweeps/CONFIG)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--dry_run", action="store_true", help="only list the points")
    parser.add_argument("--trials", type=int, default=0, help="search: trials of the study in all")
    parser.add_argument(
        "--storage",
        default="",
        help="of the study: URL of a database, or a journal file that several machines see "
        "(study.db in the sweep's folder)",
    )
    args, rest = parser.parse_known_args(argv)
    if wrong := [word for word in rest if not word.startswith("--config.")]:
        parser.error(f"unexpected {wrong[0]!r}; a setting of all points is --config.key=value")
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least 1")
    if args.trials < 0 or (not args.trials and args.storage):
        parser.error("--storage is of a search: --trials=N, at least 1")
    if args.trials and args.dry_run:
        parser.error("--dry_run lists points; a search draws its own as it goes")
    file = Path(args.config.partition(":")[0])
    if not file.is_file():
        raise UserError(f"--config={args.config}: no such file")
    folder = Path(args.sweep_dir or f"sweeps/{file.stem}")
    run = _search if args.trials else _points
    return run(args, folder, [f"--config={args.config}", *rest])


def _points(args: argparse.Namespace, folder: Path, arguments: list[str]) -> int:
    from crnn_jax import settings
    from crnn_jax.training import sweep_points, sweep_runs

    points = sweep_points.points_of(args.config)
    for changes in points.values():  # a mistake in the last point is not to be found tomorrow
        settings.parse([*arguments, *sweep_points.flags_of(changes)])
    if args.dry_run:
        print("\n".join(points))
        return 0
    with sweep_runs.hold(folder):
        failed = sweep_runs.run_points(points, folder, arguments, jobs=args.jobs, say=_say)
        ended = ((n, c, sweep_runs.summary_of(folder / n)) for n, c in points.items())
        _compare(ended, folder)
    return 1 if failed else 0


def _search(args: argparse.Namespace, folder: Path, arguments: list[str]) -> int:
    from crnn_jax import settings
    from crnn_jax.training import sweep_points, sweep_runs

    try:
        from crnn_jax.training import sweep_search
    except ModuleNotFoundError as error:
        raise UserError(f"--trials needs: pip install 'crnn_jax[sweep]' ({error})") from None
    suggest = sweep_points.suggestion_of(args.config)
    changes = sweep_search.example(suggest)
    data = settings.parse([*arguments, *sweep_points.flags_of(changes)]).config.data
    if not data.validation and data.split == "none":
        raise UserError(
            "--trials: config.data.validation or data.split has to say what to compare by"
        )
    with sweep_runs.hold(folder):
        name = Path(args.config.partition(":")[0]).stem
        study = sweep_search.open_study(args.storage, name, folder, arguments[1:])
        failed = sweep_search.search(
            study, suggest, folder, arguments, trials=args.trials, jobs=args.jobs, say=_say
        )
        _say(sweep_search.counts(study))
        _compare(sweep_search.finished(study), folder)
    return 1 if failed else 0


def _compare(ended: Iterable[tuple[str, dict, dict | None]], folder: Path) -> None:
    from crnn_jax.training import sweep_table

    if lines := sweep_table.collect(ended):
        files = sweep_table.write(lines, folder)
        print("\n".join(sweep_table.markdown(lines)))
        _say(f"written: {', '.join(map(str, files))}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
