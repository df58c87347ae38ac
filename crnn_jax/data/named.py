"""Things that a config names as `package.module:attribute`: found when they are asked for.

Rooms that stand above this one (rendered words, augmentation) are reached the same way as a
user's own parser: by name, so that nothing of them is imported here.
"""

import importlib
from typing import Any

from crnn_jax.core.errors import UserError


def load(name: str, key: str, wanted: str = "package.module:function") -> Any:
    """What `package.module:attribute` stands for.

    Args:
        name: as written in the config.
        key: the config's key, for messages.
        wanted: what would be right, for messages.

    Raises:
        UserError: no such module or attribute, or it cannot be called.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UserError(f"{key}={name!r}: must be {wanted}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}={name!r}: {error}; must be {wanted}") from None
    if not callable(found):
        raise UserError(f"{key}={name!r}: {attribute} cannot be called; must be {wanted}")
    return found
