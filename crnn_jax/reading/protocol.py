"""The same samples, decoder and options for every model that is evaluated.

    protocol = Protocol(['test.txt'], 'beam', {'lexicon': 'words.txt'})
    a, b = protocol.open('a.safetensors'), protocol.open('b.safetensors')
    comparison = compare(a.evaluate(), b.evaluate())

Opening reads model, annotations and word lists: a wrong name is told before the first picture is
read.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crnn_jax.core.errors import UserError
from crnn_jax.reading.calibration import calibrate, save_calibrated
from crnn_jax.reading.decoder import Decoder, open_decoder
from crnn_jax.reading.evaluation import BATCH_SIZE, evaluate_source, open_annotation
from crnn_jax.reading.recognizer import Recognizer
from crnn_jax.reading.report import write_evaluation_report
from crnn_jax.scoring.compare import Comparison
from crnn_jax.scoring.predictions import predictions_file, read_predictions
from crnn_jax.scoring.result import EvaluationResult


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How models are evaluated.

    Attributes:
        annotations: annotation files, or folders labelled by their file names.
        decoder: 'greedy', 'beam' or 'both'.
        options: of the decoder, as `open_decoder` takes them.
        batch_size: pictures read together; no result depends on it.
        form, images, split: as `open_annotation` takes them.

    Raises:
        UserError: there is no such decoder.
    """

    annotations: Sequence[str]
    decoder: str = "greedy"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = BATCH_SIZE
    form: str = "auto"
    images: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        Decoder(self.decoder)  # tells a wrong name

    def open(self, model: str | None = None) -> "Trial":
        """Opens a model (None: the one that ships) and the files and words for its characters.

        Raises:
            UserError: one of them cannot be used.
        """
        recognizer = Recognizer.load(model)
        sources = [
            open_annotation(recognizer, path, form=self.form, images=self.images, split=self.split)
            for path in self.annotations
        ]
        name = "beam" if self.decoder == "both" else self.decoder
        decoders = [open_decoder(recognizer.charset, name, **self.options)]
        if self.decoder == "both":
            decoders.insert(0, Decoder("greedy"))
        return Trial(recognizer, sources, decoders, self.batch_size)

    def open_other(self, named: str) -> Callable[[], EvaluationResult]:
        """Opens the second of two: a model, or what one has read already (`predictions.tsv`).

        Returns:
            A function that gives its result: the first model reads first.

        Raises:
            UserError: it cannot be used.
        """
        file = predictions_file(named)
        if file is None:
            return self.open(named).evaluate
        known = read_predictions(file)
        return lambda: known


@dataclasses.dataclass(frozen=True)
class Trial:
    """A model before its samples.

    Attributes:
        recognizer, sources: opened.
        decoders: one, or greedy and then the other; the last is the one that counts.
        batch_size: pictures read together.
    """

    recognizer: Recognizer
    sources: Sequence[Any]
    decoders: Sequence[Decoder]
    batch_size: int

    def evaluate(self, decoder: Decoder | None = None) -> EvaluationResult:
        """Reads every sample once; with the decoder that counts unless another is named."""
        result = EvaluationResult()
        for source in self.sources:
            result += evaluate_source(
                self.recognizer, source, self.batch_size, decoder or self.decoders[-1]
            )
        return result

    def calibrate(self, path: str) -> float:
        """Finds the temperature on the samples, uses it, writes the model with it; returns it.

        Raises:
            UserError: another file is there already.
        """
        model = self.recognizer.name
        if os.path.exists(path) and not (os.path.exists(model) and os.path.samefile(path, model)):
            raise UserError(f"{path}: another file is there already; {model} is to be written")
        found = calibrate(self.recognizer, self.sources, self.decoders[-1], self.batch_size)
        self.recognizer.temperature = found
        save_calibrated(model, path, found)
        return found

    def report(
        self,
        path: str,
        result: EvaluationResult,
        about: Mapping[str, str],
        comparison: Comparison | None = None,
    ) -> str:
        """Writes the HTML report of what `evaluate` returned; returns its path."""
        sources = {source.name: source for source in self.sources}
        return write_evaluation_report(
            *(path, self.recognizer, self.decoders[-1], result, about, comparison),
            picture_of=lambda row: sources[row.set].content(row.id),
        )
