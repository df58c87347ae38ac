"""The programs in example/ that read with an exported file and its own runtime alone."""

import ast
import base64
import dataclasses
import http.server
import importlib.util
import json
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.images import decode_image
from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.exporting.metadata import reader_metadata
from crnn_jax.exporting.plan import ExportPlan
from crnn_jax.exporting.verify import BLOCKED, OURS
from crnn_jax.reading.loaded_model import LoadedModel
from crnn_jax.reading.recognizer import Recognizer
from tests.testdata.exports import tf, tiny_model

EXAMPLE = Path(__file__).parents[2] / "example"
PICTURE = EXAMPLE / "images" / "1_Hotel_1.jpg"
# Program -> the export that it reads, what it may not import, what it and the export need.
READERS = {
    "keras_reader.py": (ExportPlan("word.h5", "keras"), BLOCKED["keras"], ["keras"]),
    "onnx_reader.py": (
        ExportPlan("word.onnx", "onnx"),
        BLOCKED["onnx"],
        ["onnx", "onnxruntime"],
    ),
    "opencv_reader.py": (
        ExportPlan("cv.onnx", "onnx", layout="opencv"),
        (*BLOCKED["opencv"], "PIL"),
        ["onnx", "cv2"],
    ),
    "saved_model_reader.py": (
        ExportPlan("word", "saved_model"),
        (*OURS, "PIL"),
        ["tensorflow"],
    ),
    "stablehlo_reader.py": (
        ExportPlan("word.stablehlo", "stablehlo"),
        BLOCKED["stablehlo"],
        ["jax"],
    ),
    "tf_serving_client.py": (
        ExportPlan("word", "saved_model"),
        (*OURS, "PIL", "numpy", "tensorflow"),
        ["tensorflow"],
    ),
    "tflite_reader.py": (ExportPlan("word.tflite", "tflite"), BLOCKED["tflite"], ["tensorflow"]),
}


def test_every_reader_is_tested_and_short():
    lengths = {p.name: len(p.read_text().splitlines()) for p in EXAMPLE.glob("*.py")}
    assert lengths.keys() == READERS.keys()
    assert max(lengths.values()) <= 40


@pytest.fixture(scope="module")
def model():
    """The one that ships, where `<UNK>` is always the best class: no reader may emit it."""
    found = LoadedModel.open("en_36")
    found.variables["params"]["logits"]["bias"][found.unknown_id] += 99
    return found


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """(plan) -> the path of its output, written once."""
    folder = tmp_path_factory.mktemp("exported")

    def write(plan):
        path = folder / plan.output
        if not path.exists():
            dataclasses.replace(plan, output=str(path)).write(model)
        return path

    return write


@pytest.fixture
def server():
    """(folder of a SavedModel) -> address of a stub of TF Serving's REST interface."""
    servers = []

    def start(folder):
        models = {"/v1/models/word:predict": tf.saved_model.load(f"{folder}/1").signatures}

        class Stub(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    read = models[self.path][body["signature_name"]]
                    files = [one["image_bytes"]["b64"] for one in body["instances"]]
                    out = read(image_bytes=tf.constant([*map(base64.b64decode, files)]))
                    columns = [value.numpy() for value in out.values()]
                    rows = [dict(zip(out, row, strict=True)) for row in zip(*columns, strict=True)]
                    code, answer = 200, {"predictions": rows}
                except (KeyError, TypeError) as error:
                    code, answer = 400, {"error": str(error)}
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(answer, default=plain).encode())

            def log_message(self, *args):
                pass

        def plain(value):
            return value.decode() if isinstance(value, bytes) else value.tolist()

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Stub))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1/models/word"

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


def run(program, blocked, *words, cwd):
    """Runs a program of example/ where some packages seem not to be installed."""
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({list(blocked)})); del sys.argv[0];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    # Set for JAX's XLA; TensorFlow's aborts on flags that it does not know.
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PYTHONPATH")}
    words = [sys.executable, "-P", "-c", code, EXAMPLE / program, *words]
    pipes = {"capture_output": True, "text": True}
    return subprocess.run(words, cwd=cwd, env=env, check=False, **pipes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
@pytest.mark.parametrize("program", READERS)
def test_a_reader_reads_what_the_model_reads(program, model, exported, server, tmp_path):
    plan, blocked, needs = READERS[program]
    for name in needs:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    given = exported(plan)
    if program == "saved_model_reader.py":
        given /= "1"
    elif program == "tf_serving_client.py":
        given = server(given)
    metadata = model.metadata
    if program == "opencv_reader.py":  # OpenCV takes one width
        metadata = metadata | {"preprocessing": metadata["preprocessing"] | {"width": 100}}
    (reading,) = Recognizer(model.variables, metadata).read([PICTURE], views=False)
    assert reading.text == "hotel"
    done = run(program, blocked, given, PICTURE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text, _, probability = done.stdout.strip().partition(", probability ")
    assert text == f"{PICTURE}: {reading.text}"
    assert (probability == "") == (plan.post == "none")
    assert float(probability or reading.confidence) == pytest.approx(reading.confidence, abs=1e-3)
    if program == "tflite_reader.py":  # as after `make demo`, by TensorFlow's interpreter
        again = run(program, (*blocked, "ai_edge_litert"), given, PICTURE, cwd=tmp_path)
        assert again.stdout == done.stdout, again.stderr
    if program == "tf_serving_client.py":
        done = run(program, blocked, f"{given}2", PICTURE, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (1, f"{given}2: '/v1/models/word2:predict'\n")


def test_a_server_that_is_not_there_is_one_line(tmp_path):
    url = "http://127.0.0.1:1/v1/models/word"
    done = run("tf_serving_client.py", (), url, PICTURE, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"{url}: ")


def test_what_opencv_cannot_read_is_told(tmp_path):
    for name in ("onnx", "cv2"):
        pytest.importorskip(name)
    plan, blocked, _ = READERS["opencv_reader.py"]
    dataclasses.replace(plan, output=str(tmp_path / "cv.onnx")).write(tiny_model())
    done = run("opencv_reader.py", blocked, "cv.onnx", "none.png", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "none.png: OpenCV cannot read this file"


RULES = [
    {},
    {"channels": 3, "min_width": 90, "max_width": 120},
    {"rounding": "floor"},
    {"width": 21},
    {"antialias": False},
]


@pytest.mark.parametrize("changes", RULES, ids=str)
def test_pictures_are_resized_as_for_the_model(changes, tmp_path):
    functions = set()
    for name in ("keras", "onnx", "stablehlo", "tflite"):
        tree = ast.parse((EXAMPLE / f"{name}_reader.py").read_text())
        functions |= {ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(functions) == 1
    resize = runpy.run_path(str(EXAMPLE / "stablehlo_reader.py"))["resize"]
    rule = Preprocessing(**changes)
    model = dataclasses.replace(tiny_model(), preprocessing=rule)
    told = json.loads(reader_metadata(model, "none"))
    random = np.random.default_rng(3)
    for size, bands, least in (
        ((32, 60), "RGB", 0),
        ((47, 101), "RGB", 0),
        ((300, 38), "RGB", 0),
        ((9, 200), "RGBA", 0),
        ((40, 70), "RGBA", 136),  # bright ink
        ((40, 70), "LA", 136),
        ((40, 70), "I;16", 0),
    ):
        if bands == "I;16":
            image = Image.fromarray(random.integers(0, 1 << 16, size, np.uint16))
        else:
            levels = random.integers(least, least + 120, (*size, len(bands)), np.uint8)
            image = Image.fromarray(levels, bands)
        image.getexif()[0x0112] = 6  # a camera held upright
        image.save(tmp_path / "a.png", exif=image.getexif())
        want = rule.resize(decode_image(tmp_path / "a.png", rule.channels))
        (got,) = resize(tmp_path / "a.png", told["preprocessing"])
        assert got.shape == want.shape
        # Pillow cuts off what lies behind the point where it samples without antialiasing.
        assert np.abs(got.astype(int) - want).max() <= (0 if rule.antialias else 1)
