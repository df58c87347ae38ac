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

import math
from collections.abc import Iterable, Iterator

from crnn_jax.decoding.ngram import BEGIN, END, UNKNOWN, NGram
from crnn_jax.spec.errors import UserError

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


def read_arpa(lines: Iterable[str], name: str) -> NGram:
    """Reads a model over characters; n-grams with tokens of several characters are left out.

    Args:
        lines: of the file.
        name: what errors call it.

    Raises:
        UserError: naming file and line, where it is no such model.
    """
    order, ended = 0, False
    entries: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip("\r\n")
        if line.startswith("\\"):
            ended = line.strip() == "\\end\\"
            size = line.strip().removeprefix("\\").removesuffix("-grams:")
            order = int(size) if size.isdecimal() else 0
        elif order and line.strip():
            gram, numbers = _entry(line, order, f"{name}:{number}")
            if gram is not None:
                entries[gram] = numbers
    if not ended:
        raise UserError(
            f"{name}: no ARPA language model, or cut short: its last line is not \\end\\"
        )
    longest = max(map(len, entries), default=0)
    if not any(len(gram) == 1 and gram not in WRITTEN for gram in entries):
        raise UserError(f"{name}: its tokens are words; a reader of characters wants one of these")
    return NGram(longest, entries)


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
    if len(tokens) != order or not 1 <= len(numbers) <= 2 or any(map(math.isnan, numbers)):
        raise UserError(
            f"{where}: want log10 p, {order} tokens and perhaps a weight: {line[:60]!r}"
        )
    characters = [TOKENS.get(token, token) for token in tokens]
    if any(len(c) != 1 for c in characters):
        return None, (0.0, 0.0)
    return "".join(characters), (numbers[0], numbers[1] if len(numbers) > 1 else 0.0)
