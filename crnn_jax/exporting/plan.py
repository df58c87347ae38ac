"""An export: checked before a model is loaded, written whole or not at all.

plan = ExportPlan('word', 'saved_model', post='beam_search')
plan.write(LoadedModel.open('en_36'))
"""

import dataclasses
import os
import shutil
import tempfile

from crnn_jax.core.errors import UserError
from crnn_jax.core.geometry import GEOMETRIES, min_image_width
from crnn_jax.exporting.metadata import reader_metadata
from crnn_jax.reading.loaded_model import LoadedModel

# Format -> its decoders, the default first.
POSTS = {
    "saved_model": ("greedy", "none", "softmax", "beam_search"),
    "tflite": ("greedy", "none", "softmax"),
    "stablehlo": ("greedy", "none", "softmax", "beam_search"),
    "keras": ("none", "softmax"),
    "onnx": ("none", "softmax"),
    "web": ("greedy",),
}
ENDINGS = {"keras": (".h5", ".hdf5"), "onnx": (".onnx",)}
# Option -> what it is for.
OWNERS = {
    "quantize": ("--format tflite",),
    "batch": ("--format tflite",),
    "width": ("--format tflite", "--layout opencv"),
    "layout": ("--format onnx",),
    "beam_width": ("--post beam_search",),
}


@dataclasses.dataclass
class ExportPlan:
    """The command's flags; `post` '' is the format's default."""

    output: str
    format: str
    post: str = ""
    beam_width: int = 0  # 10 of a beam search
    quantize: str = "none"
    batch: int = 0
    width: int = 0
    layout: str = "standard"

    def __post_init__(self) -> None:
        posts = POSTS[self.format]
        self.post = self.post or posts[0]
        self.output = os.path.normpath(self.output)
        if self.post not in posts:
            raise UserError(f"--post {self.post}: --format {self.format} has {', '.join(posts)}")
        chosen = {f"--{key} {getattr(self, key)}" for key in ("format", "layout", "post")}
        for key, owners in OWNERS.items():
            value = getattr(self, key)
            if value != getattr(ExportPlan, key) and chosen.isdisjoint(owners):
                flag = key.replace("_", "-")
                raise UserError(f"--{flag} {value}: it is for {' or '.join(owners)}")
        self.beam_width = self.beam_width or 10 * (self.post == "beam_search")
        if self.format == "tflite" and bool(self.batch) != bool(self.width):
            raise UserError("--batch and --width: both fixed, or both free")
        if 0 < self.width < (least := max(map(min_image_width, GEOMETRIES))):
            raise UserError(f"--width {self.width}: must be at least {least} pixels")
        ends = ENDINGS.get(self.format, ("",))
        if not self.output.endswith(ends):
            raise UserError(f"-o {self.output}: end it in {' or '.join(ends)}")

    def require_room(self, *beside: str, overwrite: bool) -> None:
        """UserError if the output cannot be written, or exists and may not be replaced.

        `beside` are paths of further files.
        """
        parent = os.path.dirname(self.output) or "."
        if not os.path.isdir(parent):
            raise UserError(f"{self.output}: no folder {parent}")
        for path in () if overwrite else (self.output, *beside):
            if os.path.lexists(path):
                raise UserError(f"{path} exists; --overwrite replaces it")

    def write(self, model: LoadedModel, *, overwrite: bool = False) -> list[str]:
        """Writes in a folder beside the output, then moves; returns paths, the output first."""
        parent, name = os.path.split(self.output)
        try:
            partial = tempfile.mkdtemp(prefix=f".{name}.partial-", dir=parent or ".")
        except OSError as error:
            raise UserError(f"{self.output}: cannot be written: {error.strerror}") from error
        try:
            self._export(model, os.path.join(partial, name))
            names = sorted(os.listdir(partial), key=lambda n: (n != name, n))
            targets = [os.path.join(parent, made) for made in names]
            self.require_room(*targets, overwrite=overwrite)
            for made, target in zip(names, targets, strict=True):
                new = os.path.join(partial, made)
                if os.path.isdir(target) or (os.path.isdir(new) and os.path.lexists(target)):
                    # A rename replaces files by files only.
                    os.rename(target, os.path.join(partial, f"old {made}"))
                os.replace(new, target)
        except UserError as error:
            raise UserError(str(error).replace(os.path.join(partial, name), self.output)) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return targets

    def _export(self, model: LoadedModel, path: str) -> None:
        pair = (model.variables, model.metadata)
        match self.format:  # each imports its own library
            case "saved_model":
                from crnn_jax.exporting.saved_model import write_saved_model

                write_saved_model(model, path, post=self.post, beam_width=self.beam_width)
            case "tflite":
                from crnn_jax.exporting.tflite import write_tflite

                options = {"post": self.post, "quantize": self.quantize}
                write_tflite(model, path, batch=self.batch, width=self.width, **options)
            case "stablehlo":
                from crnn_jax.exporting.stablehlo import write_stablehlo

                write_stablehlo(model, path, post=self.post, beam_width=self.beam_width)
            case "keras":
                from crnn_jax.exporting.keras import save_h5, to_keras

                keras_model = to_keras(pair, softmax=self.post == "softmax")
                save_h5(keras_model, path, reader_metadata(model, self.post))
            case "onnx":
                from crnn_jax.exporting.onnx import export_onnx

                export_onnx(pair, path, layout=self.layout, post=self.post, width=self.width)
            case "web":
                from crnn_jax.exporting.web import write_web

                write_web(model, path)
