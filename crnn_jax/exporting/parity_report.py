"""What a comparison of an exported file with its model found, for people and for programs."""

import dataclasses
import json
from typing import Any

from crnn_jax.core.whole_file import whole_file

# Smallest share of pictures with the same text, by what was compared. Of equal arrays a picture
# is let off where rounding decides between two classes; 8-bit weights change logits by hundredths
# to tenths, so that a few close calls fall the other way.
REQUIRED = {
    "arrays": 1.0,
    "bytes": 0.998,
    "float16": 0.995,
    "dynamic": 0.95,
    "other search": 0.99,  # TensorFlow's own beam search in place of ours
}
SHOWN = 20  # differing texts on the terminal; the files hold all


@dataclasses.dataclass(frozen=True)
class Difference:
    """A picture that the two read differently; `near`: rounding alone may have decided."""

    path: str
    label: str
    ours: str
    theirs: str
    near: bool = False


@dataclasses.dataclass
class Comparison:
    """Readings of the same pictures by the model and by the exported file.

    Attributes:
        kind: a key of `REQUIRED`.
        pictures: compared.
        differences: every picture with another text.
        largest_difference: of logits (probabilities where the file gives those); None if it
            gives neither.
        ours_right, theirs_right: texts equal to the label.
        labelled: pictures, those that cannot be read included.
        images_per_second: of the file in its runtime, once everything is compiled.
    """

    kind: str
    pictures: int
    differences: list[Difference]
    largest_difference: float | None
    ours_right: int
    theirs_right: int
    labelled: int
    images_per_second: float

    @property
    def required(self) -> float:
        """The smallest share that passes."""
        return REQUIRED[self.kind]

    @property
    def agreement(self) -> float:
        """The share of pictures with the same text."""
        return 1 - len(self.differences) / max(self.pictures, 1)

    @property
    def passed(self) -> bool:
        """Whether enough are the same, those not counted where rounding decides."""
        told = sum(not difference.near for difference in self.differences)
        return 1 - told / max(self.pictures, 1) >= self.required

    def lines(self, name: str) -> list[str]:
        """For people."""
        same = self.pictures - len(self.differences)
        n = max(self.labelled, 1)
        told = (
            f"{name}: {same:,} of {self.pictures:,} texts the same, {100 * self.agreement:.2f} % "
            f"(at least {100 * self.required:g} %): {'passed' if self.passed else 'FAILED'}"
        )
        right = (
            f"  right: {100 * self.theirs_right / n:.2f} %, the model itself "
            f"{100 * self.ours_right / n:.2f} %; {self.images_per_second:,.0f} images/s"
        )
        if self.largest_difference is None:
            return [told, right]
        return [told, f"  largest difference of a score: {self.largest_difference:.2g}", right]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        n = max(self.labelled, 1)
        return dataclasses.asdict(self) | {
            "agreement": self.agreement,
            "required": self.required,
            "passed": self.passed,
            "accuracy": self.theirs_right / n,
            "accuracy_of_the_model": self.ours_right / n,
        }


@dataclasses.dataclass
class Report:
    """Of one exported file.

    Attributes:
        artefact: how it was exported.
        runtime: what read with it, and its version.
        size: bytes on disk.
        pictures: of the annotation files.
        unreadable: path -> reason of those that cannot be read.
        arrays: comparison on equal arrays.
        files: comparison on encoded pictures, where the file takes them.
    """

    artefact: dict[str, Any]
    runtime: str
    size: int
    pictures: int
    unreadable: dict[str, str]
    arrays: Comparison
    files: Comparison | None = None

    @property
    def passed(self) -> bool:
        """Whether the file reads what the model reads."""
        return self.arrays.passed and (self.files is None or self.files.passed)

    def text(self, most: int | None = None) -> str:
        """For people; `most` limits the differing texts that are shown."""
        head = (
            f"{self.artefact['path']}: {self.artefact['format']}, post {self.artefact['post']}, "
            f"{self.artefact['precision']}, {self.size / 1e6:.2f} MB, {self.runtime}, "
            f"{self.pictures:,} pictures"
        )
        lines = [head]
        if self.unreadable:
            lines.append(f"{len(self.unreadable):,} pictures cannot be read and count as wrong")
        for name, comparison in (("arrays", self.arrays), ("files", self.files)):
            if comparison is None:
                continue
            lines += comparison.lines(name)
            for difference in comparison.differences[:most]:
                near = ", rounding decides" if difference.near else ""
                lines.append(
                    f"  {difference.path}: {difference.theirs!r}, the model {difference.ours!r}, "
                    f"label {difference.label!r}{near}"
                )
            hidden = len(comparison.differences) - (most or len(comparison.differences))
            if hidden > 0:
                lines.append(f"  and {hidden:,} more in the report")
        return "\n".join(lines)

    def write(self, stem: str) -> None:
        """Writes `stem`.txt and `stem`.json."""
        for ending, content in ((".txt", self.text()), (".json", self._json())):
            with whole_file(stem + ending) as file:
                file.write(content + "\n")

    def _json(self) -> str:
        record = dataclasses.asdict(self) | {
            "passed": self.passed,
            "arrays": self.arrays.to_json(),
            "files": None if self.files is None else self.files.to_json(),
        }
        return json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
