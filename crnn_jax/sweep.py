"""Trains every point of a sweep, or searches for the best, and compares them.

    python -m crnn_jax.sweep --config=CONFIG [--sweep-dir=DIR] [--jobs=N] [--config.a.b=c]
    python -m crnn_jax.sweep --config=CONFIG --trials=N [--storage=URL] ...

Beside get_config(), the config file has a function sweep(add) that calls
add({'optimizer.learning_rate': 3e-4, 'data.augment': 'light'}) for every point. For a search, it
has a function suggest(trial) instead, which returns such a dictionary of changes with values from
trial.suggest_float('rate', 1e-4, 3e-3, log=True) and the like. Each point is a run in its own
workdir; the same command resumes where it was stopped. At the end it writes results.csv,
results.md and results.svg, best point first. Needs Optuna: pip install '.[sweep]'.
"""

from collections.abc import Sequence
from pathlib import Path

from crnn_jax import cli
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import locked_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sweep; returns the exit code, 1 where a point failed."""
    parser = cli.Parser("sweep", __doc__)
    parser.add_argument("--config", required=True, help="config file with sweep(add) or suggest")
    parser.add_argument("--sweep-dir", default="", help="folder of the runs (sweeps/CONFIG)")
    parser.add_argument("--jobs", type=cli.number(1), default=1, help="parallel runs (1)")
    parser.add_argument("--dry-run", action="store_true", help="only list the points")
    about = "search: total number of trials in the study"
    parser.add_argument("--trials", type=cli.number(0), default=0, help=about)
    about = "search: URL of a database, or a journal file shared by several machines"
    parser.add_argument("--storage", default="", help=about)
    args, rest = parser.parse_known_args(argv)
    if wrong := [word for word in rest if not word.startswith("--config.")]:
        parser.error(f"unexpected {wrong[0]!r}; a setting of all points is --config.key=value")
    if (args.storage and not args.trials) or (args.trials and args.dry_run):
        parser.error("--storage needs --trials=N; --dry-run does not take --trials")

    from crnn_jax import settings
    from crnn_jax.training import sweep

    arguments = [f"--config={args.config}", *rest]
    base = settings.parse(arguments).config
    suggest, points = None, {}
    if args.trials:
        suggest, points["the first"] = sweep.suggest_of(args.config)
    else:
        points = sweep.points_of(args.config)
    for changes in points.values():
        # A mistake in the last point is not to be found tomorrow.
        data = settings.parse([*arguments, *sweep.flags_of(changes)]).config.data
        if suggest and not data.validation and data.split in ("", "none"):
            raise UserError(
                "--trials needs validation data: set config.data.validation or config.data.split"
            )
    if args.dry_run:
        print("\n".join(points))
        return 0
    name = Path(args.config.partition(":")[0]).stem
    folder = Path(args.sweep_dir or f"sweeps/{name}")
    with locked_folder(folder, "--sweep-dir"):
        storage = args.storage or f"sqlite:///{folder / 'study.db'}"
        study = sweep.open_study(storage, name, base, prune=bool(suggest))
        trials = args.trials or sweep.add_points(study, points)
        failed = sweep.run(study, folder, arguments, suggest, trials, args.jobs)
        sweep.say(sweep.counts(study))
        if rows := sweep.results(study):
            sweep.write_results(rows, folder)
            print("\n".join(sweep.markdown(rows)))
            sweep.say(f"written: results.csv, results.md and results.svg in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
