"""Reading with an exported file, and TFLite's converter, in a process without this package.

`in_own_process` starts this file as a script, with the job on stdin.
"""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

ENOUGH = 5.0  # seconds of timing
AT_ONCE = 16  # images a call

# (version, images uint8 [b h w c] -> arrays [b ..] by name, classes as the model's)
Runtime = tuple[str, Callable[[Any], dict[str, Any]]]


def saved_model(job: dict[str, Any]) -> Runtime:
    """TensorFlow alone; it also reads encoded images, a list of paths or bytes."""
    import tensorflow as tf

    model = tf.saved_model.load(os.path.join(job["path"], "1"))

    def encoded(file: str | bytes) -> bytes:
        if isinstance(file, bytes):
            return file
        return pathlib.Path(file).read_bytes() if os.path.isfile(file) else b""  # undecodable

    def read(given: Any) -> dict[str, Any]:
        if isinstance(given, list):
            out = model.signatures["serving_bytes"](image_bytes=tf.constant([*map(encoded, given)]))
        else:
            out = model.signatures["serving_default"](images=tf.constant(given))
        found = {name: array.numpy() for name, array in out.items()}
        if "text" in found:
            found["text"] = [text.decode() for text in found["text"]]
        return found

    return f"TensorFlow {tf.__version__}", read


def tflite(job: dict[str, Any]) -> Runtime:
    """ai-edge-litert, or the interpreter inside TensorFlow."""
    try:
        from ai_edge_litert import interpreter

        version = "ai-edge-litert"
    except ImportError:
        from tensorflow.lite.python import interpreter

        version = "TensorFlow Lite"
    run = interpreter.Interpreter(job["path"], num_threads=2).get_signature_runner()
    return version, lambda images: run(images=images)


def keras(job: dict[str, Any]) -> Runtime:
    """Keras on TensorFlow."""
    import keras

    model = keras.models.load_model(job["path"], compile=False)
    return f"Keras {keras.__version__}", lambda images: {
        job["output"]: model.predict_on_batch(images.astype("float32"))
    }


def onnx(job: dict[str, Any]) -> Runtime:
    """Onnxruntime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(job["path"], providers=["CPUExecutionProvider"])
    return f"onnxruntime {onnxruntime.__version__}", lambda images: {
        job["output"]: session.run(None, {"images": images})[0]
    }


def opencv(job: dict[str, Any]) -> Runtime:
    """cv2.dnn.TextRecognitionModel alone; classes that are never read have score NaN."""
    import cv2
    import numpy as np

    vocabulary = pathlib.Path(os.path.splitext(job["path"])[0] + "_vocabulary.txt")
    net = cv2.dnn.readNetFromONNX(job["path"])
    reader = cv2.dnn.TextRecognitionModel(job["path"])
    reader.setDecodeType("CTC-greedy")
    reader.setVocabulary(vocabulary.read_text("utf-8").split("\n")[:-1])
    classes = job["opencv_classes"]

    def read(images: Any) -> dict[str, Any]:
        (image,) = images[..., 0]
        size = image.shape[::-1]
        reader.setInputParams(1 / 127.5, size, (127.5,))
        net.setInput(cv2.dnn.blobFromImage(image, 1 / 127.5, size, 127.5))
        found = net.forward().reshape(-1, len(classes))  # --> [t, k]
        scores = np.full((1, len(found), job["classes"]), np.nan, np.float32)
        scores[0, :, classes] = found.T
        return {job["output"]: scores, "text": [reader.recognize(image)]}

    return f"OpenCV {cv2.__version__}", read


def stablehlo(job: dict[str, Any]) -> Runtime:
    """JAX without flax and without this package."""
    import jax
    import numpy as np

    program = pathlib.Path(job["path"]).read_bytes()
    call = jax.jit(jax.export.deserialize(bytearray(program)).call)

    def read(images: Any) -> dict[str, Any]:
        # Padded to a few shapes: each compiles.
        b, height, w, channels = images.shape
        padded = np.zeros((AT_ONCE if b > 1 else 1, height, -(-w // 32) * 32, channels), np.uint8)
        padded[:b, :, :w] = images
        widths = np.where(np.arange(len(padded)) < b, w, 0).astype(np.int32)
        out = {name: np.asarray(array) for name, array in call(padded, widths).items()}
        frames = out["frames"][0]
        return {name: array[:b, :frames] for name, array in out.items() if array.ndim > 1}

    return f"JAX {jax.__version__}", read


def convert_to_tflite(job: dict[str, Any]) -> None:
    """Converts a SavedModel to operations that every interpreter has."""
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


def read_all(job: dict[str, Any]) -> dict[str, Any]:
    """The runtime's version; its answer to each batch of 'images' and 'files', and the speed."""
    sys.modules.update(dict.fromkeys(job["blocked"]))  # None: as if not installed
    version, read = globals()[job["runtime"]](job)
    answers: dict[str, Any] = {"version": version}
    for name, batches in job["batches"].items():
        answers[name] = [read(batch) for batch in batches]
        answers[f"{name}_per_second"] = measure(read, batches)
    return answers


def measure(read: Callable[[Any], Any], batches: Sequence[Any]) -> float:
    """Images a second, of batches that were read before, so that all is compiled."""
    count, started = 0, time.perf_counter()
    for batch in batches:
        read(batch)
        count += len(batch)
        if time.perf_counter() - started > ENOUGH:
            break
    return count / max(time.perf_counter() - started, 1e-9)


def in_own_process(task: Callable[[Any], Any], job: dict[str, Any]) -> Any:
    """Calls a function of this file; RuntimeError holds the last line of its stderr."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ | {"KERAS_BACKEND": "tensorflow"}
    if "jax" in job.get("blocked", ()):
        # Set for JAX's XLA by `cpu_settings`; TensorFlow's aborts on flags it does not know.
        environment.pop("XLA_FLAGS", None)
    with tempfile.TemporaryDirectory(prefix="crnn_export_") as folder:
        answer = pathlib.Path(folder, "answer")
        given = pickle.dumps((task.__name__, job, answer))
        # -P: a script's own folder must not hide installed packages.
        words = [sys.executable, "-P", os.path.abspath(__file__)]
        done = subprocess.run(
            words, input=given, stderr=subprocess.PIPE, env=environment, check=False
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").split("\n")
            lines = [f"exit code {done.returncode}", *said]
            raise RuntimeError([line.strip() for line in lines if line.strip()][-1])
        return pickle.loads(answer.read_bytes())  # noqa: S301 - our own process wrote it


if __name__ == "__main__":
    name, job, answer = pickle.load(sys.stdin.buffer)  # noqa: S301
    answer.write_bytes(pickle.dumps(globals()[name](job)))
