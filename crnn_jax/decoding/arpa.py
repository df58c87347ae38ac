r"""Language models in the ARPA format, which KenLM, SRILM and this project write.

    \data\
    ngram 1=39
    \1-grams:
    -1.2041	a	-0.3010
    \2-grams:
    -0.4771	<s> t
    \end\

Each line holds log10 p of the last token after the others, the tokens, and log10 of the weight of
backing off from them. A token is one character; a space is written <SPACE>, as in table files
(<space> and U+2581 are read too).
"""

import collections
import math
import re
from collections.abc import Iterable, Iterator

from crnn_jax.core.errors import UserError
from crnn_jax.decoding.ngram import BEGIN, END, UNKNOWN, NGram

TOKENS = {
    "<s>": BEGIN,
    "</s>": END,
    "<unk>": UNKNOWN,
    "<UNK>": UNKNOWN,
    "<SPACE>": " ",
    "<space>": " ",
    "\N{LOWER ONE EIGHTH BLOCK}": " ",
}
WRITTEN = {BEGIN: "<s>", END: "</s>", UNKNOWN: "<unk>", " ": "<SPACE>"}
LOG_10 = math.log(10)
MAX_LINE = 1 << 16  # bytes; room for words of kilobytes
MAX_ORDER = 100  # 20 is the longest in use over characters; a context is walked by recursion
MAX_NGRAMS = 10_000_000  # 0.8 kB of memory each until a search can walk them
MAX_LOG = 1000.0  # a probability of 10 ** 1000 is none (NaN is not below it either); -inf is


def read_arpa(lines: Iterable[str], name: str) -> NGram:
    """Reads a model over characters; n-grams with tokens of several characters are left out.

    Args:
        lines: of the file, whose size does not matter: what is kept is bounded.
        name: what errors call it.

    Raises:
        UserError: naming file and line, where it is no such model, or has over `MAX_NGRAMS`.
    """
    order, ended, of_characters = 0, False, False
    stated: dict[int, int] = {}
    found: collections.Counter[int] = collections.Counter()
    entries: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip("\r\n")
        if line.startswith("\\"):
            ended = line.strip() == "\\end\\"
            order = _order(line.strip(), f"{name}:{number}")
            if order > 1 and not of_characters:  # told before the gigabytes that may follow
                break
        elif order and line.strip():
            gram, numbers = _entry(line, order, f"{name}:{number}")
            found[order] += 1
            if gram is not None:
                entries[gram] = numbers
                of_characters |= order == 1 and gram not in WRITTEN
                if len(entries) > MAX_NGRAMS:
                    raise UserError(f"{name}: over {MAX_NGRAMS:,} n-grams; prune the model")
        elif head := re.fullmatch(r"ngram +(\d{1,3}) *= *(\d{1,18})\s*", line):
            stated[int(head[1])] = int(head[2])
    else:
        if not ended:
            raise UserError(
                f"{name}: no ARPA language model, or cut short: its last line is not \\end\\"
            )
    if not of_characters:
        raise UserError(f"{name}: its tokens are words; a reader of characters wants one of these")
    for n, count in stated.items():
        if found[n] != count:
            raise UserError(f"{name}: damaged: {found[n]} {n}-grams where its head says {count}")
    return NGram(max(map(len, entries)), entries)


def arpa_lines(model: NGram) -> Iterator[str]:
    """The model as lines of an ARPA file, without line ends; shorter n-grams first."""
    by_length: list[list[str]] = [[] for _ in range(model.order)]
    for gram in sorted(model.entries):
        by_length[len(gram) - 1].append(gram)
    yield "\\data\\"
    for n, grams in enumerate(by_length, 1):
        yield f"ngram {n}={len(grams)}"
    for n, grams in enumerate(by_length, 1):
        yield ""
        yield f"\\{n}-grams:"
        for gram in grams:
            log_prob, back_off = model.entries[gram]
            cells = [f"{log_prob / LOG_10:.7g}", " ".join(WRITTEN.get(c, c) for c in gram)]
            if back_off:
                cells.append(f"{back_off / LOG_10:.7g}")
            yield "\t".join(cells)
    yield ""
    yield "\\end\\"


def _order(header: str, where: str) -> int:
    """Tokens of the n-grams under a line that starts with a backslash; 0: no n-grams."""
    if not header.endswith("-grams:"):
        return 0
    order = header[1:].removesuffix("-grams:")
    if not (order.isdecimal() and len(order) <= 3 and 1 <= int(order) <= MAX_ORDER):
        raise UserError(f"{where}: {header[:20]!r}: n-grams have 1 to {MAX_ORDER} tokens")
    return int(order)


def _entry(line: str, order: int, where: str) -> tuple[str | None, tuple[float, float]]:
    """(n-gram, None if it is not of characters; its natural logs)."""
    # Between the columns are TABs, between tokens spaces; some writers put spaces everywhere. Not
    # str.split(): a no-break space is a character like any other.
    cells = [cell for cell in line.replace("\t", " ").split(" ") if cell]
    tokens = cells[1 : order + 1]
    try:
        numbers = [float(cell) * LOG_10 for cell in (cells[0], *cells[order + 1 :])]
    except ValueError:
        numbers = []
    if len(tokens) != order or not 1 <= len(numbers) <= 2 or not all(x <= MAX_LOG for x in numbers):
        raise UserError(
            f"{where}: want log10 p, {order} tokens and perhaps a weight: {line[:60]!r}"
        )
    characters = [TOKENS.get(token, token) for token in tokens]
    if any(len(c) != 1 for c in characters):
        return None, (0.0, 0.0)
    return "".join(characters), (numbers[0], numbers[1] if len(numbers) > 1 else 0.0)
