"""Work in a process that imports none of ours: reading with an exported file, TFLite's converter.

`in_own_process` starts this file as a script in a folder with job.json. To read it finds
pictures.npz there, batches of pictures of one width each, and writes answers.npz.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

ENOUGH = 5.0  # seconds of timing
AT_ONCE = 16  # files a call
KEPT = ("logits", "probabilities", "ids", "text")

Read = Callable[[Any], dict[str, Any]]  # uint8 [b h w c] -> arrays by name, classes as the model's
ReadFiles = Callable[[Sequence[str]], list[str]]  # paths of encoded pictures -> texts


def saved_model(job: dict[str, Any]) -> tuple[str, Read, ReadFiles]:
    """TensorFlow alone."""
    import tensorflow as tf

    model = tf.saved_model.load(os.path.join(job["path"], "1"))

    def texts(out: Any) -> list[str]:
        return [text.decode() for text in out["text"].numpy()]

    def read(images: Any) -> dict[str, Any]:
        out = model.signatures["serving_default"](images=tf.constant(images))
        return {name: texts(out) if name == "text" else out[name].numpy() for name in out}

    def read_files(paths: Sequence[str]) -> list[str]:
        # One that cannot be opened counts as undecodable.
        contents = [pathlib.Path(p).read_bytes() if os.path.isfile(p) else b"" for p in paths]
        return texts(model.signatures["serving_bytes"](image_bytes=tf.constant(contents)))

    return f"TensorFlow {tf.__version__}", read, read_files


def tflite(job: dict[str, Any]) -> tuple[str, Read, None]:
    """ai-edge-litert, or the interpreter inside TensorFlow."""
    try:
        from ai_edge_litert import interpreter

        version = "ai-edge-litert"
    except ImportError:
        from tensorflow.lite.python import interpreter

        version = "TensorFlow Lite"
    run = interpreter.Interpreter(job["path"], num_threads=2).get_signature_runner()
    return version, lambda images: run(images=images), None


def keras(job: dict[str, Any]) -> tuple[str, Read, None]:
    """Keras on TensorFlow."""
    import keras

    model = keras.models.load_model(job["path"], compile=False)
    name = job["output"]
    return (
        f"Keras {keras.__version__}",
        lambda images: {name: model.predict_on_batch(images.astype("float32"))},
        None,
    )


def onnx(job: dict[str, Any]) -> tuple[str, Read, None]:
    """Onnxruntime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(job["path"], providers=["CPUExecutionProvider"])
    version = f"onnxruntime {onnxruntime.__version__}"
    return version, lambda images: {job["output"]: session.run(None, {"images": images})[0]}, None


def opencv(job: dict[str, Any]) -> tuple[str, Read, None]:
    """cv2.dnn.TextRecognitionModel alone; NaN as the score of what is never read."""
    import cv2
    import numpy as np

    with open(os.path.splitext(job["path"])[0] + "_vocabulary.txt", encoding="utf-8") as file:
        vocabulary = file.read().split("\n")[:-1]
    net = cv2.dnn.readNetFromONNX(job["path"])
    reader = cv2.dnn.TextRecognitionModel(job["path"])
    reader.setDecodeType("CTC-greedy")
    reader.setVocabulary(vocabulary)
    left_out = (job["blank_id"], job["unknown_id"])
    classes = [job["blank_id"], *(i for i in range(job["classes"]) if i not in left_out)]

    def read(images: Any) -> dict[str, Any]:
        (image,) = images[..., 0]
        size = image.shape[::-1]
        reader.setInputParams(1 / 127.5, size, (127.5,))
        net.setInput(cv2.dnn.blobFromImage(image, 1 / 127.5, size, 127.5))
        found = net.forward().reshape(-1, len(classes))  # --> [t, k]
        scores = np.full((1, len(found), job["classes"]), np.nan, np.float32)
        scores[0, :, classes] = found.T
        return {job["output"]: scores, "text": [reader.recognize(image)]}

    return f"OpenCV {cv2.__version__}", read, None


def stablehlo(job: dict[str, Any]) -> tuple[str, Read, None]:
    """JAX without flax and without this package."""
    import jax
    import numpy as np

    with open(job["path"], "rb") as file:
        call = jax.jit(jax.export.deserialize(bytearray(file.read())).call)

    def read(images: Any) -> dict[str, Any]:
        # Every shape compiles: padded to a few of them, as the program knows the real widths.
        b, height, w, channels = images.shape
        padded = np.zeros((AT_ONCE if b > 1 else 1, height, -(-w // 32) * 32, channels), np.uint8)
        padded[:b, :, :w] = images
        widths = np.where(np.arange(len(padded)) < b, w, 0).astype(np.int32)
        out = {name: np.asarray(array) for name, array in call(padded, widths).items()}
        frames = out["frames"][0]
        return {name: array[:b, :frames] for name, array in out.items() if array.ndim > 1}

    return f"JAX {jax.__version__}", read, None


RUNTIMES: dict[str, Callable[..., tuple[str, Read, ReadFiles | None]]] = {
    f.__name__: f for f in (saved_model, tflite, keras, onnx, opencv, stablehlo)
}


def in_own_process(task: str, job: dict[str, Any], folder: str) -> str:
    """Starts a function of this file; '' where it went well, else the last line of what it said."""
    with open(os.path.join(folder, "job.json"), "w", encoding="utf-8") as file:
        json.dump({"task": task, **job}, file)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"} | os.environ
    if "jax" in job.get("blocked", ()):
        # Flags of JAX's own XLA (`cpu_settings`); TensorFlow's ends at one it does not know.
        environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        # -P: a script's own folder must not hide installed packages.
        [sys.executable, "-P", os.path.abspath(__file__)],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = [f"exit code {done.returncode}", *done.stderr.split("\n")]
    return [line.strip() for line in lines if line.strip()][-1] if done.returncode else ""


def convert_to_tflite(job: dict[str, Any]) -> None:
    """A SavedModel by operations that every interpreter has."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        job["source"], signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if job["quantize"] != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job["quantize"] == "float16":
        converter.target_spec.supported_types = [tf.float16]
    pathlib.Path(job["path"]).write_bytes(converter.convert())


def read_all(job: dict[str, Any]) -> None:
    """Reads every batch, and the files if the runtime takes them."""
    sys.modules.update(dict.fromkeys(job["blocked"]))  # None: as if it were not installed
    import numpy as np

    version, read, read_files = RUNTIMES[job["runtime"]](job)
    with np.load("pictures.npz") as stored:
        batches = [stored[name] for name in stored.files]
    answers: dict[str, Any] = {"version": version}
    for i, batch in enumerate(batches):
        found = read(batch)
        answers |= {f"{i}.{name}": found[name] for name in KEPT if name in found}
    answers["images_per_second"] = measure(read, batches)
    if job["files"] and read_files is not None:
        groups = [job["files"][i : i + AT_ONCE] for i in range(0, len(job["files"]), AT_ONCE)]
        answers["files"] = [text for group in groups for text in read_files(group)]
        answers["files_per_second"] = measure(read_files, groups)
    if imported := [name for name in job["blocked"] if sys.modules[name] is not None]:
        raise RuntimeError(f"blocked, but imported: {imported}")
    np.savez("answers.npz", **answers)


def measure(read: Callable[[Any], Any], batches: Sequence[Any]) -> float:
    """Pictures a second of batches that were read before: everything is compiled."""
    count, started = 0, time.perf_counter()
    for batch in batches:
        read(batch)
        count += len(batch)
        if time.perf_counter() - started > ENOUGH:
            break
    return count / max(time.perf_counter() - started, 1e-9)


if __name__ == "__main__":
    job = json.loads(pathlib.Path("job.json").read_text("utf-8"))
    {f.__name__: f for f in (read_all, convert_to_tflite)}[job["task"]](job)
