"""Trains a model from a config.

    python -m crnn_jax.main --config=configs/mjsynth.py [--workdir=DIR] [--config.a.b=c]

The same command resumes a stopped run; for a finished run it says so. docs/configs.md lists the
config keys.
"""

import sys
from collections.abc import Sequence

from crnn_jax import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the flags say; returns the exit code."""
    from crnn_jax import settings

    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(word in ("-h", "--help", "-help") for word in arguments):
        print(f"{__doc__}{settings.help_text()}")
        return 0
    run = settings.parse(arguments)

    cli.set_up_jax()  # a resumed run need not compile again
    from crnn_jax.training.loop import train_and_evaluate
    from crnn_jax.training.metrics import NotFinite
    from crnn_jax.training.parallel import join

    if run.joining is not None:
        join(*run.joining)
    try:
        train_and_evaluate(run.config, run.workdir, with_new_config=run.with_new_config)
    except NotFinite as error:
        print(f"error: {error}; saved in {run.workdir}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    cli.run(main)
