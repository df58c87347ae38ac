"""One row of the fault table."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

HOLE = 3 << 30  # bytes of a file that takes no room on the disk


@dataclass(frozen=True)
class Case:
    """A command, to be run in the folder that its files lie in, and what it should answer.

    Attributes:
        name: what is wrong, in words.
        arguments: the command without `python -m crnn_jax.`, and its arguments.
        says: pattern of a line of its output; the last that fits is shown.
        code: its exit code.
        room: bytes that a file may grow to, as if the disk were full then.
        environment: what differs from this process's.
    """

    name: str
    arguments: tuple[str, ...]
    says: str
    code: int = 2
    room: int = resource.RLIM_INFINITY
    environment: Mapping[str, str] = field(default_factory=dict)


def write(path: Path, content: bytes | str) -> str:
    """The file's name, for arguments."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path.name


def image(path: Path, size: tuple[int, int] = (60, 20)) -> str:
    """An even grey image; its name."""
    Image.new("L", size, 128).save(path)
    return path.name
