"""A folder with a page that reads images in the browser, on the machine of who opens it.

    write_web(LoadedModel.open('en_36'), 'word')  # then: python -m http.server -d word

The page, the network as ONNX, its characters and preprocessing as JSON, and ONNX Runtime Web, which
npm downloads. Served as files: the page fetches nothing from elsewhere and sends nothing.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from crnn_jax.core.errors import UserError
from crnn_jax.core.files import whole_file
from crnn_jax.exporting.metadata import reader_metadata
from crnn_jax.exporting.onnx import export_onnx
from crnn_jax.reading.loaded_model import LoadedModel

PACKAGE = "onnxruntime-web@1.30.0"
SHA512 = (  # of the archive: another registry may hold anything under that name
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # for CPUs alone
PAGE = Path(__file__).with_name("web.html")


def write_web(model: LoadedModel, folder: str) -> None:
    """Writes `folder`; UserError where npm is missing or cannot fetch the runtime."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"--format web: npm is not installed; it downloads {PACKAGE}")
    os.mkdir(folder)
    shutil.copyfile(PAGE, os.path.join(folder, "index.html"))
    export_onnx((model.variables, model.metadata), os.path.join(folder, "model.onnx"))
    with whole_file(os.path.join(folder, "model.json")) as file:
        file.write(reader_metadata(model, "none"))
    with (
        tempfile.TemporaryDirectory(prefix="crnn_jax_web_") as scratch,
        tarfile.open(_download(npm, scratch)) as archive,
    ):
        for name in RUNTIME:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None  # the archive is the pinned one
            with whole_file(os.path.join(folder, name), "wb") as file:
                shutil.copyfileobj(member, file)


def _download(npm: str, folder: str) -> str:
    """The package's archive, as pinned."""
    words = [npm, "pack", PACKAGE, f"--pack-destination={folder}", "--prefer-offline"]
    # By default npm tries for over a minute, and says nothing.
    words += ["--fetch-retries=1", "--loglevel=error"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().partition("\n")[0]
        raise UserError(f"--format web: npm cannot fetch {PACKAGE}: {reason}")
    path = os.path.join(folder, done.stdout.split()[-1])
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha512").hexdigest() != SHA512:
            raise UserError(f"--format web: {PACKAGE} is not the archive that is pinned here")
    return path
