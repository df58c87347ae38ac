"""Train: python -m crnn_jax.main --config=configs/mjsynth.py [--workdir=DIR] [--config.a.b=c]

The same command goes on with a run that was stopped; a finished run says so.
"""

import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from crnn_jax import cli
from crnn_jax.spec.errors import UserError

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, see configs/.', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', '', 'Folder of the run; runs/<config>-<data> if not given.')
_RESUME = flags.DEFINE_enum(
    'resume', 'auto', ['auto', 'with_new_config'],
    'with_new_config goes on although the config differs from the one the run was begun with.',
)


def main(argv: list[str] | None = None) -> int | None:
    """Trains; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        rest = flags.FLAGS(['crnn_jax.main', *arguments])[1:]
    except flags.Error as error:
        raise UserError(str(error)) from None
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}; settings are --config.key=value')
    config = _CONFIG.value
    if config is None:
        raise UserError('--config=configs/NAME.py is missing')
    workdir = _WORKDIR.value or default_workdir(config)

    from crnn_jax.training.loop import NotFinite, train_and_evaluate

    try:
        train_and_evaluate(config, workdir, with_new_config=_RESUME.value == 'with_new_config')
    except NotFinite as error:
        print(f'{error}; saved', file=sys.stderr)
        return 1
    return 0


def default_workdir(config) -> str:
    """runs/<config>-<data>."""
    name = Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
    data = Path(config.data.train.split(',')[0].split('*')[0]).stem
    return os.path.join('runs', f'{name}-{data}')


if __name__ == '__main__':
    cli.run(main)
