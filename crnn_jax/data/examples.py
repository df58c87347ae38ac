"""tf.train.Example without TensorFlow: the byte strings of a serialized one, by feature.

An Example is a protocol buffer: Example{1: Features{1: map entry{1: name, 2: Feature}}}, and a
Feature that holds bytes is Feature{1: BytesList{1: value, 1: value, ...}}. Numbers are passed over.
"""


def bytes_features(record: bytes) -> dict[str, list[bytes]]:
    """The features that hold byte strings.

    Args:
        record: a serialized tf.train.Example.

    Raises:
        ValueError: it is none.
    """
    found: dict[str, list[bytes]] = {}
    for features in _fields(record, 0, len(record), 1):
        for entry in _fields(record, *features, 1):
            names = _fields(record, *entry, 1)
            values = _fields(record, *entry, 2)
            if not names or not values:
                continue
            for lists in _fields(record, *values[-1], 1):
                name = record[slice(*names[-1])].decode()
                texts = [record[a:b] for a, b in _fields(record, *lists, 1)]
                found.setdefault(name, []).extend(texts)
    return found


def _fields(message: bytes, at: int, end: int, wanted: int) -> list[tuple[int, int]]:
    """Where the length-delimited fields with this number stand in message[at:end].

    Nothing is copied: most of a record is its picture.
    """
    found = []
    while at < end:
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(message, at)
            if tag >> 3 == wanted:
                found.append((at, at + size))
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"no field of kind {kind}")
    if at != end:
        raise ValueError("a field ends behind its message")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """(a number of 7 bits a byte, the place behind it)."""
    if at < len(message) and message[at] < 128:  # as nearly all of them
        return message[at], at + 1
    value = shift = 0
    for place in range(at, min(at + 10, len(message))):
        byte = message[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place + 1
        shift += 7
    raise ValueError("a number without an end")
