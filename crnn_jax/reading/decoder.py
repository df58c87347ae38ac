"""How a recognizer finds the text in a network's output: which decoder, with what to help it.

    decoder = open_decoder(recognizer.charset, 'beam', beam_width=50, lexicon='words.txt')
    recognizer.read(paths, decoder)

Opening reads files and builds tries: do it once, not for every image. A lexicon's file holds one
word a line, UTF-8; behind a TAB may stand how often it occurs, which makes frequent words more
probable. A language model is an ARPA file over characters, of `language_model` or of KenLM.
"""

import dataclasses
import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from crnn_jax.core.charset import Charset, nfc
from crnn_jax.core.errors import UserError
from crnn_jax.core.files import text_lines
from crnn_jax.decoding.greedy import greedy_decode, sequence_log_prob

if TYPE_CHECKING:  # only beam search needs them
    from crnn_jax.decoding.language_model import Automaton, NGram
    from crnn_jax.decoding.lexicon import Lexicon

NAMES = ("greedy", "beam", "both")
# Chosen on real images, see experiments/decoding/README.md.
LM_WEIGHT = 0.3
LENGTH_BONUS = 1.5

LEXICON_LINE = 4096  # bytes; no image shows a word of a thousand characters


class Decoded(NamedTuple):
    """What stands in a batch of images; NumPy arrays.

    Confidences are at the model's temperature.
    """

    log_probs: Any  # float32 [b, t, k]
    lengths: Any  # int32 [b], real frames
    ids: Any  # int32 [b, p, n], class ids of the best texts, best first
    # int32 [b, p], their characters; -1 where there are fewer texts, but at least one, maybe empty
    id_lengths: Any
    log_prob: Any  # float32 [b, p], log p(text | image); -inf where no text was found
    greedy_ids: Any = None  # int32 [b, n], the greedy text, where both were asked
    greedy_lengths: Any = None  # int32 [b]


@dataclasses.dataclass(frozen=True, eq=False)
class Decoder:
    """A way from the network's output to texts.

    Attributes:
        name: 'greedy', 'beam', or 'both', which is beam search with the greedy text beside it.
        beam_width: texts that a beam search keeps from frame to frame.
        top_paths: texts an image, the best and its alternatives; at most `beam_width`.
        prune: as in `beam_search`.
        lexicon: beam search then finds its words only; where all of them are too long for the
            frames, the text is empty and its confidence 0.
        lm: a language model; beam search only.
        lm_weight, length_bonus: as in `beam_search`; they count with a language model only.
        allowed: bool [k], the classes that may be written, and the blank; None: all. Confidences
            are those among the texts of these characters.

    Raises:
        UserError: a name or numbers that make no sense.
    """

    name: str = "greedy"
    beam_width: int = 10
    top_paths: int = 1
    prune: float = 1e-5
    lexicon: "Lexicon | None" = None
    lm: "Automaton | None" = None
    lm_weight: float = LM_WEIGHT
    length_bonus: float = LENGTH_BONUS
    allowed: np.ndarray | None = None

    def __post_init__(self) -> None:
        most = int(self.beam_width)
        for flag, right, what in (
            ("decoder", self.name in NAMES, f"there is {', '.join(NAMES)}"),
            ("beam_width", most == self.beam_width and most >= 1, "a whole number, at least 1"),
            ("top_paths", self.top_paths in range(1, most + 1), f"1 to the beam's width, {most}"),
            ("prune", 0 <= self.prune <= 1, "a probability"),
            ("lm_weight", 0 <= self.lm_weight < math.inf, "a finite number, at least 0"),
            ("length_bonus", math.isfinite(self.length_bonus), "a finite number"),
        ):
            if not right:
                value = self.name if flag == "decoder" else getattr(self, flag)
                raise UserError(f"--{flag.replace('_', '-')} {value}: {what}")
        for flag in ("lexicon", "lm", "top_paths"):
            if self.name == "greedy" and getattr(self, flag) is not getattr(Decoder, flag):
                named = flag.replace("_", "-")
                raise UserError(f"--{named}: greedy decoding takes none; --decoder beam does")

    def decode(
        self, logits: jax.Array, lengths: jax.Array, temperature: float, *, blank_id: int
    ) -> Decoded:
        """Reads a batch of logits float32 [b, t, k], of `greedy.emittable`, and frames int32 [b].

        Confidences are those of logits / temperature; texts do not depend on it.
        """
        scores = logits if self.name == "greedy" else tempered(logits, 1.0)
        ids, id_lengths = self.texts(scores, lengths, blank_id)
        missing = id_lengths < 0
        id_lengths[missing[:, 0], 0] = 0
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
            # Added: NaN, of damaged weights, stays.
            np.stack(log_prob, axis=1) + np.where(missing, np.float32(-np.inf), np.float32(0)),
            *beside,
        )

    def texts(
        self, log_probs: jax.Array | np.ndarray, lengths: jax.Array | np.ndarray, blank_id: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The texts alone, from log-probabilities: `Decoded.ids` and `id_lengths`.

        Of a row without any text the first length is -1 too.
        """
        if self.name == "greedy":
            ids, id_lengths = _greedy(log_probs, lengths, blank_id)
            return ids[:, None], id_lengths[:, None]
        from crnn_jax.decoding.beam_search import beam_search

        found = beam_search(
            np.asarray(log_probs),
            np.asarray(lengths),
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
        return ids, id_lengths


def open_decoder(
    charset: Charset,
    name: str = "greedy",
    *,
    lexicon: "str | os.PathLike[str] | Iterable[str] | None" = None,
    lm: "str | os.PathLike[str] | NGram | None" = None,
    characters: str | None = None,
    **numbers: Any,
) -> Decoder:
    """Makes a decoder for a model's characters.

    Args:
        charset: of the model.
        name: 'greedy', 'beam' or 'both'.
        lexicon: a file of words, or the words themselves; those with other characters than are
            read are left out, and counted by `Lexicon.left_out`.
        lm: an ARPA file or an `NGram`.
        characters: the only ones that are read, such as '0123456789.-'; None: all of the model's.
        **numbers: the other attributes of `Decoder`.

    Raises:
        UserError: a file that cannot be used, a name or numbers that make no sense.
    """
    given: dict[str, Any] = {"lexicon": lexicon, "lm": lm}
    decoder = Decoder(name, **given, **numbers)  # what is wrong there is told before files are read
    allowed = None if characters is None else allowed_classes(characters, charset)
    if isinstance(lexicon, str | os.PathLike):
        given["lexicon"] = read_lexicon(lexicon, charset, allowed)
    elif lexicon is not None:
        from crnn_jax.decoding.lexicon import Lexicon

        given["lexicon"] = Lexicon.from_words(list(lexicon), charset, allowed=allowed)
    if lm is not None:
        model = read_language_model(lm) if isinstance(lm, str | os.PathLike) else lm
        given["lm"] = model.for_charset(charset)
    return dataclasses.replace(decoder, allowed=allowed, **given)


def allowed_classes(characters: str, charset: Charset) -> np.ndarray:
    """bool [k]: the classes of these characters, and the blank."""
    wanted = {charset.normalize(c) for c in nfc(characters)}
    if missing := sorted(wanted - set(charset.characters)):
        raise UserError(f"--characters: the model does not know {''.join(missing)[:40]!r}")
    if not wanted:
        raise UserError("--characters: at least one is expected")
    symbols = enumerate(charset.symbols)
    return np.array([i == charset.blank_id or symbol in wanted for i, symbol in symbols])


def read_lexicon(
    path: str | os.PathLike[str], charset: Charset, allowed: np.ndarray | None = None
) -> "Lexicon":
    """Reads a list of words; `allowed` as in `Lexicon.from_words`.

    Where some line has a count every line needs one; a word's prior is its share of the counts.

    Raises:
        UserError: naming file and line.
    """
    from crnn_jax.decoding.lexicon import Lexicon

    name = os.fspath(path)
    words: list[str] = []
    counts: list[float] = []
    for number, line in enumerate(text_lines(path, LEXICON_LINE), 1):
        word, tab, count = line.partition("\t")
        if not (word := word.strip()):
            continue
        if words and bool(tab) != bool(counts):
            raise UserError(f"{name}:{number}: a count on some lines only; on all or on none")
        if tab:
            try:
                counts.append(float(count))
            except ValueError:
                counts.append(0.0)
            if not 0 < counts[-1] < 1e300:  # their sum is still a number
                raise UserError(f"{name}:{number}: {count[:20]!r} is no count; a number above 0")
        words.append(word)
    priors = np.log(counts) - np.log(np.sum(counts)) if counts else None
    try:
        return Lexicon.from_words(words, charset, priors, allowed)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def read_language_model(path: str | os.PathLike[str]) -> "NGram":
    """Reads an ARPA file; raises UserError naming file and line."""
    from crnn_jax.decoding.language_model import MAX_LINE, read_arpa

    return read_arpa(text_lines(path, MAX_LINE), os.fspath(path))


@jax.jit
def tempered(logits: jax.Array, temperature: jax.Array | float) -> jax.Array:
    """Log-probabilities at a temperature: float32 [b, t, k]."""
    return jax.nn.log_softmax(logits / temperature, axis=-1)


def _greedy(logits: Any, lengths: Any, blank_id: int) -> tuple[np.ndarray, np.ndarray]:
    ids, id_lengths = greedy_decode(logits, lengths, blank_id=blank_id)
    return np.array(ids), np.array(id_lengths)
