"""A reader of pickles that can call nothing: enough of the format for PyTorch's weights, no more.

A pickle is a program for a small stack machine, and two of its instructions import and call
whatever the file names. Here they know four names, and the four are records of ours. Everything
that is no dictionary, list, tuple, number, string or tensor ends the reading.
"""

import dataclasses
import pickletools
import warnings
from collections.abc import Callable, Iterator
from typing import IO, Any

from crnn_jax.core.errors import UserError

MAX_STEPS = 5_000_000  # instructions; a CRNN's weights take about two thousand
_NUMBERS = ("BINFLOAT", "BININT", "BININT1", "BININT2", "FLOAT", "INT", "LONG", "LONG1", "LONG4")
_BYTES = ("BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINBYTES", "SHORT_BINSTRING", "STRING")
_TEXTS = ("BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE")
_LITERALS = frozenset(_NUMBERS + _BYTES + _TEXTS)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


@dataclasses.dataclass(frozen=True)
class Name:
    """Something that the pickle asks to import; it is not."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """A block of numbers that lies elsewhere in the file: 'FloatStorage', its key, its length."""

    kind: str
    key: str | int
    length: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage as the file states it; nothing of it is checked yet."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Mark:
    pass


def read_pickle(file: IO[bytes], name: str) -> Any:
    """Reads one pickle from where the file stands.

    Args:
        file: is left standing behind the pickle.
        name: what errors call the file.

    Returns:
        Dictionaries, lists, tuples, numbers, strings, and `Tensor`s or `Storage`s.

    Raises:
        UserError: it holds something else, or is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for step, (opcode, argument, _) in enumerate(_instructions(file)):
            if step > MAX_STEPS:
                raise ValueError("too many instructions")
            if opcode.name == "STOP":
                return stack.pop()
            _execute(opcode.name, argument, stack, memo)
        raise ValueError("no end")
    except _Refused as refused:
        raise UserError(f"{name}: {refused}; save only tensors: model.state_dict()") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{name}: damaged or cut short: its pickle cannot be read") from error


class _Refused(Exception):
    pass


def _instructions(file: IO[bytes]) -> Iterator[Any]:
    """pickletools' own, without its warnings about odd escapes in what is refused anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield from pickletools.genops(file)


def _execute(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in ("PROTO", "FRAME"):
        return
    if name in _LITERALS:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name]())
    elif name == "MARK":
        stack.append(_Mark)
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        # genops gives GLOBAL's two lines as one string with a space between.
        parts = argument.split(" ") if name == "GLOBAL" else [stack.pop(-2), stack.pop()]
        stack.append(_known(".".join(map(str, parts))))
    elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name in ("TUPLE", "LIST", "DICT"):
        items = _since_mark(stack)
        kinds: dict[str, Callable[[list[Any]], Any]] = {"TUPLE": tuple, "LIST": list, "DICT": _dict}
        stack.append(kinds[name](items))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        list.extend(stack[-1], items)
    elif name in ("SETITEM", "SETITEMS"):
        items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
        dict.update(stack[-1], _dict(items))
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_call(function, arguments))
    elif name == "BUILD":
        # The versions of a state_dict's modules, an attribute of the dictionary: not needed.
        state = stack.pop()
        if not isinstance(stack[-1], dict) or not isinstance(state, dict):
            raise _Refused("it holds Python objects")
    elif name == "POP":
        stack.pop()
    else:
        raise _Refused(f"its pickle uses {name}, which tensors do not need")


def _known(name: str) -> Name:
    module, _, last = name.rpartition(".")
    if module == "torch" and last.endswith("Storage"):
        return Name(last)
    if name in ("torch.storage.UntypedStorage", "torch.storage._UntypedStorage"):
        return Name("UntypedStorage")
    if name in _CALLS:
        return Name(name)
    raise _Refused(f"its pickle wants to run {name[:60]!r}, which is not done here")


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, Name) or function.name not in _CALLS:
        raise _Refused("its pickle calls something")
    return _CALLS[function.name](*arguments)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    return Tensor(storage, offset, size, stride)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in items:
        made.update(_dict([key, value]))
    return made


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _storage(identity: Any) -> Storage:
    # ('storage', kind, key, device, length[, view of another storage])
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise ValueError("no storage")
    if len(identity) > 5 and identity[5] is not None:
        raise _Refused("it holds views of storages")
    _, kind, key, _, length = identity[:5]
    if not isinstance(kind, Name) or type(key) not in (str, int) or type(length) is not int:
        raise ValueError("no storage")
    return Storage(kind.name, key, length)


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not _Mark:  # from above: a mark far below is looked for once
        place -= 1
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _dict(items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    # Nothing else is a name; and to hash a tuple nested a million deep ends the process.
    if not all(type(key) in (str, int) for key in keys):
        raise ValueError("a key that is no name")
    return dict(zip(keys, items[1::2], strict=True))
