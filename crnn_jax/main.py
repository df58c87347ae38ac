"""Trains a model as a config says.

    python -m crnn_jax.main --config=configs/mjsynth.py [--workdir=DIR] [--config.a.b=c]

The same command goes on with a run that was stopped; a finished run says so.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from crnn_jax import cli, xla_flags
from crnn_jax.spec.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the flags say; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    values = _flags()
    if any(word in ("-h", "--help", "-help") for word in arguments):
        print(f"{__doc__}{values.get_help()}")
        return 0
    config = _parse(values, arguments)
    path = config_flags.get_config_filename(values["config"])
    workdir = values.workdir or default_workdir(path, config.data.train)

    xla_flags.set_for_cpu()
    from crnn_jax.deploy import compilation_cache
    from crnn_jax.training.loop import NotFinite, train_and_evaluate

    compilation_cache.enable()  # a run that goes on need not compile again
    try:
        train_and_evaluate(config, workdir, with_new_config=values.resume == "with_new_config")
    except NotFinite as error:
        print(f"error: {error}; saved in {workdir}", file=sys.stderr)
        return 1
    return 0


def default_workdir(config_file: str, train: str) -> str:
    """runs/<config>-<data>."""
    data = Path(train.partition(",")[0].partition("*")[0])
    # Annotation files are often called labels.tsv; then the folder tells them apart.
    told = data.parent.name if data.stem in ("labels", "gt", "annotation") else data.stem
    return os.path.join("runs", f"{Path(config_file).stem}-{told or data.stem}")


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file, see configs/; --config.key=value changes it.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "workdir", "", "Folder of the run; runs/<config>-<data> if not given.", flag_values=values
    )
    flags.DEFINE_enum(
        "resume",
        "auto",
        ["auto", "with_new_config"],
        "with_new_config: go on although the config is not the one that the run was begun with.",
        flag_values=values,
    )
    return values


def _parse(values: flags.FlagValues, arguments: list[str]) -> Any:
    """Fills the flags and returns the config, with every mistake as one line."""
    sys.argv[1:] = arguments  # where ml_collections looks for what changes a config
    # Configs import each other as `configs.x`, from wherever the command is run.
    for word in arguments:
        if word.startswith("--config="):
            folder = Path(word.removeprefix("--config=").partition(":")[0]).resolve().parent
            sys.path.insert(0, str(folder.parent))
    try:
        rest = values(["crnn_jax.main", *arguments])[1:]
        config = values.config
        if config is not None:
            config.lock()  # a file that could not be loaded says so on first use
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: no config file: {error.msg}") from None
    except (KeyError, AttributeError) as error:
        told = str(error.args[0]).strip("\"'").replace("\n", "; ")
        raise UserError(f"unknown config key {told}") from None
    except (flags.Error, TypeError, ValueError, OSError) as error:
        told = str(error).removeprefix("Configuration is not available because of an ")
        raise UserError(" ".join(told.split())) from None
    if rest:
        raise UserError(f"unexpected {rest[0]!r}; a setting is --config.key=value")
    if config is None:
        raise UserError("which config? --config=configs/NAME.py")
    return config


if __name__ == "__main__":
    cli.run(main)
