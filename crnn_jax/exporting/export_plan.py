"""What is to be exported, checked before anything is loaded, and written whole or not at all.

plan = ExportPlan('word', 'saved_model', post='beam_search')
plan.write(LoadedModel.open('en_36'))
"""

import dataclasses
import os
import shutil
import tempfile

from crnn_jax.core.errors import UserError
from crnn_jax.exporting.parity import Artefact
from crnn_jax.reading.loaded_model import LoadedModel

# Format -> what can be made of the network's output inside, the usual one first.
POSTS = {
    "saved_model": ("greedy", "none", "softmax", "beam_search"),
    "tflite": ("greedy", "none", "softmax"),
    "stablehlo": ("greedy", "none", "softmax", "beam_search"),
    "keras": ("none", "softmax"),
    "onnx": ("none", "softmax"),
}
OPENCV_WIDTH = 100  # of a model with free width, as in OpenCV's own CRNN
SHOULD_END = {"keras": (".h5", ".hdf5"), "onnx": (".onnx",)}


@dataclasses.dataclass(frozen=True)
class ExportPlan:
    """One export.

    Attributes:
        output: file, or folder of a SavedModel.
        format: a key of `POSTS`.
        post: one of the format's; None: its usual one.
        beam_width: texts that a beam search keeps from frame to frame.
        via: of a SavedModel: 'jax', 'jax2tf' or 'keras'.
        quantize: of TFLite: 'none', 'float16' or 'dynamic'.
        batch, width: fixed sizes for TFLite; 0: free.
        layout: of ONNX: 'standard' or 'opencv'.

    Raises:
        UserError: a combination that there is not.
    """

    output: str
    format: str
    post: str | None = None
    beam_width: int = 10
    via: str = "jax"
    quantize: str = "none"
    batch: int = 0
    width: int = 0
    layout: str = "standard"

    def __post_init__(self) -> None:
        posts = POSTS[self.format]
        if self.post is None:
            object.__setattr__(self, "post", posts[0])
        object.__setattr__(self, "output", os.path.normpath(self.output))
        if self.post not in posts:
            raise UserError(f"--post {self.post}: --format {self.format} has {', '.join(posts)}")
        for flag, value, usual, owner in (
            ("via", self.via, "jax", "saved_model"),
            ("quantize", self.quantize, "none", "tflite"),
            ("batch", self.batch, 0, "tflite"),
            ("width", self.width, 0, "tflite"),
            ("layout", self.layout, "standard", "onnx"),
        ):
            if value != usual and self.format != owner:
                raise UserError(f"--{flag} {value}: it is for --format {owner}")
        if bool(self.batch) != bool(self.width):
            raise UserError("--batch and --width: both fixed, or both free")
        ends = SHOULD_END.get(self.format, ("",))
        if not self.output.endswith(ends):
            raise UserError(f"-o {self.output}: end it in {' or '.join(ends)}")

    def require_room(self, *, overwrite: bool) -> None:
        """Raises UserError where the output exists and is not to be replaced."""
        parent = os.path.dirname(self.output) or "."
        if not os.path.isdir(parent):
            raise UserError(f"{self.output}: no folder {parent}")
        if os.path.lexists(self.output) and not overwrite:
            raise UserError(f"{self.output} exists; --overwrite replaces it")

    def write(self, model: LoadedModel, *, overwrite: bool = False) -> list[str]:
        """Writes beside the output's place and moves there what is whole.

        Args:
            model: to export.
            overwrite: replaces what is there.

        Returns:
            The files and folders written, the output first.

        Raises:
            UserError: the output exists, cannot be written, or the model cannot be exported so.
        """
        self.require_room(overwrite=overwrite)
        parent, name = os.path.split(self.output)
        try:
            partial = tempfile.mkdtemp(prefix=f".{name}.partial-", dir=parent or ".")
        except OSError as error:
            raise UserError(f"{self.output}: cannot be written: {error.strerror}") from error
        try:
            self._export(model, os.path.join(partial, name))
            names = sorted(os.listdir(partial), key=lambda n: (n != name, n))
            for made in names:
                there = os.path.join(parent, made)
                if os.path.isdir(there) and not os.path.islink(there):
                    # A folder cannot be replaced by a rename: the old one steps aside first.
                    os.rename(there, os.path.join(partial, f"old {made}"))
                os.replace(os.path.join(partial, made), there)
        except UserError as error:
            raise UserError(str(error).replace(os.path.join(partial, name), self.output)) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return [os.path.join(parent, made) for made in names]

    def artefact(self, model: LoadedModel) -> Artefact:
        """What was written, as `parity.verify` takes it."""
        assert self.post is not None
        opencv = self.layout == "opencv"
        fixed = model.preprocessing.width or OPENCV_WIDTH
        return Artefact(
            self.output,
            "opencv" if opencv else self.format,
            post=self.post,
            beam_width=self.beam_width,
            batch=1 if opencv else self.batch,
            width=fixed if opencv else self.width,
            precision="float32" if self.quantize == "none" else self.quantize,
            same_search=self.via != "keras",
        )

    def _export(self, model: LoadedModel, path: str) -> None:
        assert self.post is not None
        if self.format == "saved_model":
            from crnn_jax.exporting.saved_model import write_saved_model

            write_saved_model(model, path, post=self.post, beam_width=self.beam_width, via=self.via)
        elif self.format == "tflite":
            from crnn_jax.exporting.tflite_model import write_tflite

            write_tflite(
                model,
                path,
                post=self.post,
                quantize=self.quantize,
                batch=self.batch,
                width=self.width,
            )
        elif self.format == "stablehlo":
            from crnn_jax.exporting.stablehlo import write_stablehlo

            write_stablehlo(model, path, post=self.post, beam_width=self.beam_width)
        elif self.format == "keras":
            from crnn_jax.exporting.keras_twin import build, save_h5

            twin = build((model.variables, model.metadata))
            if self.post == "softmax":
                import keras

                twin = keras.Model(twin.input, keras.layers.Softmax(name="softmax")(twin.output))
            save_h5(twin, path)
        else:
            from crnn_jax.exporting.onnx_model import export_onnx

            pair = (model.variables, model.metadata)
            layout = "opencv" if self.layout == "opencv" else "standard"
            post = "softmax" if self.post == "softmax" else "none"
            export_onnx(pair, path, layout=layout, post=post)
