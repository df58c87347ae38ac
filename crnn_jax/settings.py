"""The command line of a training run: `--config=FILE`, changes to it, and where to run.

run = settings.parse(['--config=configs/words.py', '--config.data.train=labels.txt'])
run.config, run.workdir
"""

import itertools
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from crnn_jax import cli
from crnn_jax.core.errors import UserError


class Run(NamedTuple):
    """The parsed flags."""

    config: Any  # locked, with its changes
    workdir: str
    with_new_config: bool  # go on although the workdir's run was begun with another config
    joining: tuple[str, int, int] | None  # arguments of `training.parallel.join`, or alone


def parse(arguments: list[str]) -> Run:
    """Reads the flags; every mistake is a UserError of one line."""
    values = _flags()
    config, file = _config(values, arguments)
    joins = values.distributed or values.coordinator or values.processes or values.process >= 0
    return Run(
        config,
        values.workdir or default_workdir(str(file), config.data.train),
        values.resume == "with_new_config",
        (values.coordinator, values.processes, values.process) if joins else None,
    )


def help_text() -> str:
    """What `--help` prints of the flags."""
    return _flags().get_help()


def default_workdir(config_file: str, train: str) -> str:
    """runs/<config>-<data>."""
    data = Path(train.partition(",")[0].partition("*")[0])
    # Annotation files are often called labels.tsv; then the folder's name is used.
    name = data.parent.name if data.stem in ("labels", "gt", "annotation") else data.stem
    return os.path.join("runs", f"{Path(config_file).stem}-{name or data.stem}")


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    about = "Config file; --config.key=value changes it."
    config_flags.DEFINE_config_file("config", None, about, flag_values=values)
    about = "Resume although the config has changed."
    choices = ["auto", "with_new_config"]
    flags.DEFINE_enum("resume", "auto", choices, about, flag_values=values)
    options: tuple[tuple[Any, str, Any, str], ...] = (
        (flags.DEFINE_string, "workdir", "", "Folder of the run (runs/<config>-<data>)."),
        (flags.DEFINE_bool, "distributed", False, "One process of many, on Slurm or TPUs."),
        (flags.DEFINE_string, "coordinator", "", "The same by hand: address:port of the first."),
        (flags.DEFINE_integer, "processes", 0, "How many processes there are."),
        (flags.DEFINE_integer, "process", -1, "Which of them this is, from 0."),
    )
    for define, name, default, about in options:
        define(name, default, about, flag_values=values)
    return values


def _config(values: flags.FlagValues, arguments: list[str]) -> tuple[Any, Path]:
    """Fills the flags; the config and its file, with every mistake as one line."""
    sys.argv[1:] = arguments  # where ml_collections looks for what changes a config
    pairs = itertools.pairwise([*arguments, ""])
    names = [w.partition("=")[2] or after for w, after in pairs if w.split("=")[0] == "--config"]
    if not names:
        raise UserError("which config? --config=configs/NAME.py")
    file = Path(names[-1].partition(":")[0])
    if not file.is_file():
        raise UserError(f"--config={file}: no such file")
    # Configs import each other as `configs.x`: those beside the file, then the current folder's.
    sys.path[:0] = [str(file.resolve().parent.parent), os.getcwd()]
    try:
        rest = values(["crnn_jax.main", *arguments])[1:]
        values.config.lock()  # a file that could not be loaded says so on first use
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: no config file: {error.msg}") from None
    except ImportError as error:
        if (error.name or "").partition(".")[0] in cli.EXTRAS:
            raise
        raise UserError(f"{file}: {error}") from None
    except (KeyError, AttributeError) as error:
        inner = error.args[0]  # an AttributeError holds a KeyError, whose text is quoted
        message = str(inner.args[0] if isinstance(inner, KeyError) else inner)
        message = message.strip("\"'").replace("'\n", "; ").replace("\n", "; ")
        if message.endswith("has no attribute 'get_config"):
            raise UserError(f"{file}: it has no get_config()") from None
        from crnn_jax.training.checkpoints import RENAMED

        for old, new in RENAMED.items():
            if any(word.split("=")[0] == f"--config.{old}" for word in arguments):
                raise UserError(f"--config.{old} is called --config.{new} now") from None
        at = traceback.extract_tb(error.__traceback__)[-1]
        if "ml_collections" not in at.filename:
            raise UserError(f"{at.filename}:{at.lineno}: {message}") from None
        raise UserError(f"unknown config key {message}") from None
    except (flags.Error, TypeError, ValueError, OSError) as error:
        message = str(error).removeprefix("Configuration is not available because of an ")
        raise UserError(" ".join(message.split())) from None
    if rest:
        raise UserError(f"unexpected {rest[0]!r}; a setting is --config.key=value")
    return values.config, file
