"""How a recognizer finds the text in a network's output: which decoder, with what to help it.

    decoder = open_decoder(recognizer.charset, 'beam', beam_width=50, lexicon='words.txt')
    recognizer.read(paths, decoder)

Opening reads files and builds tries: do it once, not for every picture. A lexicon's file holds one
word a line, UTF-8; behind a TAB may stand how often it occurs, which makes frequent words more
probable. A language model is an ARPA file over characters, of `language_model` or of KenLM.
"""

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from crnn_jax.core.charset import Charset
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines
from crnn_jax.decoding.beam_search import PRUNE, beam_search, is_count
from crnn_jax.decoding.confidence import sequence_log_prob
from crnn_jax.decoding.greedy import greedy_decode
from crnn_jax.decoding.language_model import MAX_LINE as ARPA_LINE
from crnn_jax.decoding.language_model import NO_MODEL, Automaton, NGram, read_arpa
from crnn_jax.decoding.lexicon import NO_TRIE, Lexicon

NAMES = ("greedy", "beam", "both")
BEAM_WIDTH = 10
# Chosen on real pictures, see experiments/decoding/README.md.
LM_WEIGHT = 0.3
LENGTH_BONUS = 1.5

LEXICON_LINE = 4096  # bytes; no picture shows a word of a thousand characters
# With so many characters the trie is built in 7 GB where hardly two words begin alike, 5 GB where
# most do.
MAX_WORDS = 10_000_000
MAX_CHARACTERS = 1 << 27
MAX_COUNT = 1e300  # their sum is still a number


class Decoded(NamedTuple):
    """What stands in a batch of pictures; NumPy arrays.

    Attributes:
        log_probs: float32 [b, t, k], at the model's temperature.
        lengths: int32 [b], real frames.
        ids: int32 [b, p, n], class ids of the best texts, best first.
        id_lengths: int32 [b, p], their characters; -1 where there are fewer texts.
        log_prob: float32 [b, p], log p(text | picture) at the model's temperature.
        greedy_ids, greedy_lengths: int32 [b, n] and [b], the greedy text, where both were asked.
    """

    log_probs: Any
    lengths: Any
    ids: Any
    id_lengths: Any
    log_prob: Any
    greedy_ids: Any = None
    greedy_lengths: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Decoder:
    """A way from the network's output to texts.

    Attributes:
        name: 'greedy', 'beam', or 'both', which is beam search with the greedy text beside it.
        beam_width: texts that a beam search keeps from frame to frame.
        top_paths: texts a picture, the best and its alternatives; at most `beam_width`.
        prune: as in `beam_search`.
        lexicon: beam search then finds its words only; where it finds none, the greedy text
            stands as it is.
        lm: a language model; beam search only.
        lm_weight, length_bonus: as in `beam_search`; they count with a language model only.

    Raises:
        UserError: a name or numbers that make no sense.
    """

    name: str = "greedy"
    beam_width: int = BEAM_WIDTH
    top_paths: int = 1
    prune: float = PRUNE
    lexicon: Lexicon | None = None
    lm: Automaton | None = None
    lm_weight: float = LM_WEIGHT
    length_bonus: float = LENGTH_BONUS

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"--decoder {self.name}: there is {', '.join(NAMES)}")
        if not is_count(self.beam_width):
            raise UserError(f"--beam_width {self.beam_width}: a whole number, at least 1")
        if not is_count(self.top_paths) or self.top_paths > self.beam_width:
            raise UserError(
                f"--top_paths {self.top_paths}: 1 to the width of the beam, {self.beam_width}"
            )
        if self.name == "greedy" and self.lm is not None:
            raise UserError("--lm: greedy decoding takes no language model; --decoder beam does")
        if self.name == "greedy" and self.lexicon is not None:
            raise UserError("--lexicon: greedy decoding takes no words; --decoder beam does")
        if not 0 <= self.lm_weight < math.inf:
            raise UserError(f"--lm_weight {self.lm_weight}: a finite number, at least 0")
        if not math.isfinite(self.length_bonus):
            raise UserError(f"--length_bonus {self.length_bonus}: a finite number")

    @property
    def is_plain(self) -> bool:
        """Greedy decoding: it runs on the device with the network."""
        return self.name == "greedy"

    @property
    def kind(self) -> str:
        """What gave the text: 'greedy' or 'beam'."""
        return "greedy" if self.name == "greedy" else "beam"

    def decode(
        self, logits: jax.Array, lengths: jax.Array, temperature: float, *, blank_id: int
    ) -> Decoded:
        """Reads a batch.

        Args:
            logits: float32 [b, t, k], of `greedy.emittable`.
            lengths: int32 [b], real frames.
            temperature: confidences are those of logits / temperature; texts do not depend on it.
            blank_id: class id of the blank.
        """
        if self.is_plain:
            ids, id_lengths = _greedy(logits, lengths, blank_id)
            ids, id_lengths = ids[:, None], id_lengths[:, None]
        else:
            log_probs = np.asarray(tempered(logits, 1.0))
            ids, id_lengths = self.texts(log_probs, np.asarray(lengths), blank_id)
        beside = _greedy(logits, lengths, blank_id) if self.name == "both" else (None, None)
        cooled = tempered(logits, temperature)
        log_prob = [
            sequence_log_prob(
                cooled, lengths, ids[:, i], np.maximum(id_lengths[:, i], 0), blank_id=blank_id
            )
            for i in range(ids.shape[1])
        ]
        return Decoded(
            np.asarray(cooled),
            np.asarray(lengths),
            ids,
            id_lengths,
            np.stack([np.asarray(x) for x in log_prob], axis=1),
            *beside,
        )

    def texts(
        self, log_probs: np.ndarray, lengths: np.ndarray, blank_id: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The texts alone, from log-probabilities on the host.

        Args:
            log_probs: float32 [b, t, k].
            lengths: int32 [b], real frames.
            blank_id: class id of the blank.

        Returns:
            (ids int32 [b, p, t], id_lengths int32 [b, p]) as in `Decoded`.
        """
        if self.is_plain:
            ids, id_lengths = _greedy(log_probs, lengths, blank_id)
            return ids[:, None], id_lengths[:, None]
        found = beam_search(
            log_probs,
            lengths,
            width=self.beam_width,
            blank_id=blank_id,
            top_paths=self.top_paths,
            prune=self.prune,
            lexicon=self.lexicon,
            lm=self.lm,
            lm_weight=self.lm_weight,
            length_bonus=self.length_bonus if self.lm is not None else 0.0,
        )
        b, t, _ = log_probs.shape
        ids = np.full((b, self.top_paths, t), -1, np.int32)
        id_lengths = np.full((b, self.top_paths), -1, np.int32)
        for row, hypotheses in enumerate(found):
            for i, hypothesis in enumerate(hypotheses):
                n = id_lengths[row, i] = len(hypothesis.ids)
                ids[row, i, :n] = hypothesis.ids
        nothing = id_lengths[:, 0] < 0
        if nothing.any():
            greedy_ids, greedy_lengths = _greedy(log_probs, lengths, blank_id)
            ids[nothing, 0], id_lengths[nothing, 0] = greedy_ids[nothing], greedy_lengths[nothing]
        return ids, id_lengths


def open_decoder(
    charset: Charset,
    name: str = "greedy",
    *,
    lexicon: str | os.PathLike[str] | Iterable[str] | Lexicon | None = None,
    lm: str | os.PathLike[str] | NGram | Automaton | None = None,
    **numbers: Any,
) -> Decoder:
    """Makes a decoder for a model's characters.

    Args:
        charset: of the model.
        name: 'greedy', 'beam' or 'both'.
        lexicon: a file of words, the words themselves, or a `Lexicon`.
        lm: an ARPA file, an `NGram` or an `Automaton`.
        **numbers: beam_width, top_paths, prune, lm_weight, length_bonus, as in `Decoder`.

    Raises:
        UserError: a file that cannot be used, a name or numbers that make no sense.
    """
    # What is wrong with the numbers is told before files are read.
    Decoder(
        name,
        lexicon=None if lexicon is None else Lexicon(NO_TRIE),
        lm=None if lm is None else NO_MODEL,
        **numbers,
    )
    if isinstance(lexicon, str | os.PathLike):
        lexicon = read_lexicon(lexicon, charset)
    elif lexicon is not None and not isinstance(lexicon, Lexicon):
        lexicon = Lexicon.from_words(list(lexicon), charset)
    if isinstance(lm, str | os.PathLike):
        lm = read_language_model(lm)
    if isinstance(lm, NGram):
        lm = lm.for_charset(charset)
    return Decoder(name, lexicon=lexicon, lm=lm, **numbers)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a list of words, without their ends, byte-order mark or not.

    Raises:
        UserError: it cannot be read, is not UTF-8, or holds more than `MAX_WORDS` and the other
            limits say.
    """
    name = os.fspath(path)
    lines, characters = [], 0
    for line in text_lines(path, LEXICON_LINE):
        lines.append(line)
        characters += len(line)
        if len(lines) > MAX_WORDS or characters > MAX_CHARACTERS:
            raise UserError(
                f"{name}: over {MAX_WORDS:,} words or {MAX_CHARACTERS:,} characters; keep the "
                "frequent ones"
            )
    return lines


def read_lexicon(path: str | os.PathLike[str], charset: Charset) -> Lexicon:
    """Reads a list of words.

    Words with characters outside the table are left out (`Lexicon.left_out` counts them). Where
    some line has a count every line needs one; a word's prior is its share of the counts.

    Raises:
        UserError: naming file and line.
    """
    name = os.fspath(path)
    lines = read_lines(path)
    words: list[str] = []
    counts: list[float] = []
    for number, line in enumerate(lines, 1):
        word, tab, count = line.partition("\t")
        if not word:
            continue
        if words and bool(tab) != bool(counts):
            raise UserError(f"{name}:{number}: a count on some lines only; on all or on none")
        if tab:
            try:
                counts.append(float(count))
            except ValueError:
                counts.append(0.0)
            if not 0 < counts[-1] < MAX_COUNT:
                raise UserError(f"{name}:{number}: {count[:20]!r} is no count; a number above 0")
        words.append(word)
    priors = np.log(counts) - np.log(np.sum(counts)) if counts else None
    try:
        return Lexicon.from_words(words, charset, priors)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def read_language_model(path: str | os.PathLike[str]) -> NGram:
    """Reads an ARPA file.

    Raises:
        UserError: naming file and line.
    """
    return read_arpa(text_lines(path, ARPA_LINE), os.fspath(path))


@jax.jit
def tempered(logits: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Log-probabilities at a temperature: float32 [b, t, k]."""
    return jax.nn.log_softmax(logits / temperature, axis=-1)


def _greedy(logits: Any, lengths: Any, blank_id: int) -> tuple[np.ndarray, np.ndarray]:
    ids, id_lengths = greedy_decode(logits, lengths, blank_id=blank_id)
    return np.asarray(ids), np.asarray(id_lengths)
