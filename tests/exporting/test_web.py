import base64
import functools
import http.server
import json
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import ExifTags, Image

from crnn_jax import demo, export
from tests.testdata.foreign_networks import our_model

FAILS = "#!/bin/sh\necho npm error code E404 >&2\nexit 1\n"
FETCHES_ANOTHER = '#!/bin/sh\n: > "${3#*=}/a.tgz"\necho a.tgz\n'


@pytest.fixture(autouse=True)
def onnx():
    return pytest.importorskip("onnx", reason="extra `onnx`")


@pytest.mark.parametrize(
    ("npm", "complaint"),
    [(None, "not installed"), (FAILS, "npm error code E404"), (FETCHES_ANOTHER, "is not the")],
)
def test_without_the_runtime_there_is_no_folder(run, model, tmp_path, monkeypatch, npm, complaint):
    programs, made = tmp_path / "programs", tmp_path / "made"
    for folder in (programs, made):
        folder.mkdir()
    if npm is not None:
        (programs / "npm").write_text(npm)
        (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    words = ("--format", "web", "-m", model, "-o", made / "word")
    code, out, (_, error) = run(export, *words)  # behind the line that says it may take a while
    assert (code, out) == (2, [])
    assert error.startswith("error: --format web: ")
    assert complaint in error
    assert os.listdir(made) == []


def write_other_model(path):
    """All that `en_36` leaves at its default: colours, no antialiasing, a floor, `<UNK>`."""
    from crnn_jax.core.charset import UNKNOWN, Charset
    from crnn_jax.core.model_file import save_model

    variables, metadata = our_model(channels=3)
    symbols = [UNKNOWN, *metadata["charset"][1:]]
    metadata |= Charset(tuple(symbols), len(symbols) - 1, 0).to_metadata()
    variables["params"]["logits"]["bias"][0] += 100  # else it would hardly be the best class
    metadata["preprocessing"] |= {"antialias": False, "rounding": "floor", "min_width": 64}
    save_model(path, variables, metadata | {"temperature": 0.05})
    return str(path)


def write_images(folder, examples):
    """The examples, and what a browser has to turn, shrink, stretch or lay on paper."""
    paths = sorted(map(str, examples.glob("*.jpg")))
    hotel, dinner = (Image.open(path).convert("RGB") for path in paths[:2])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    hotel.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=exif)
    noise = np.random.default_rng(0).integers(-99, 100, (239, 701, 3))  # gone in a true average
    levels = np.clip(np.asarray(hotel.resize((701, 239))) + noise, 0, 255)
    Image.fromarray(levels.astype(np.uint8)).save(folder / "large.png")
    dinner.resize((24, 8)).save(folder / "small.png")  # unsure of the two letters n
    dinner.resize((40, 70)).save(folder / "narrow.png")
    dinner.resize((900, 40)).save(folder / "wide.png")
    for name, level in (("dark", 0), ("bright", 255)):
        clear = Image.new("RGB", dinner.size, (level,) * 3)
        clear.putalpha(Image.fromarray(255 - np.array(dinner.convert("L"))))
        clear.save(folder / f"{name}.png")
    return [*paths, *map(str, sorted(folder.glob("*.*")))]


@pytest.fixture
def serve():
    """Serves a folder as `python -m http.server` does."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    servers = []

    def serve(folder):
        handler = functools.partial(Quiet, directory=folder)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


GIVE = """([kind, encoded]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0))], "image"));
  document.dispatchEvent(
    kind === "drop"
      ? new DragEvent(kind, { dataTransfer: data })
      : new ClipboardEvent(kind, { clipboardData: data }),
  );
}"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on this machine")
@pytest.mark.parametrize("which", ["en_36", "other"])
def test_the_page_reads_what_demo_reads(browser, run, serve, root, tmp_path, which):
    expect = pytest.importorskip("playwright.sync_api").expect
    model = which if which == "en_36" else write_other_model(tmp_path / "other.safetensors")
    code, _, err = run(export, "--format", "web", "-m", model, "-o", tmp_path / "word")
    if "cannot fetch" in err[-1]:
        pytest.skip(err[-1])
    assert code == 0, err
    (tmp_path / "images").mkdir()
    images = write_images(tmp_path / "images", root / "example" / "images")
    _, lines, _ = run(demo, *images, "-m", model, "--no-views", "--decoder=greedy", "--json")

    address, problems = serve(tmp_path / "word"), []
    page = browser.new_page()
    page.on("request", lambda r: r.url.startswith(address) or problems.append(r.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    expect(page.locator("#message")).to_be_empty(timeout=60_000)
    for i, (path, line) in enumerate(zip(images, lines, strict=True)):
        page.evaluate("document.getElementById('confidence').textContent = ''")
        if i < 2:
            with open(path, "rb") as file:
                encoded = base64.b64encode(file.read()).decode()
            page.evaluate(GIVE, [("drop", "paste")[i], encoded])
        else:
            page.locator("input").first.set_input_files(path)
        expect(page.locator("#confidence")).to_contain_text("confidence ")
        wanted = json.loads(line)
        assert page.locator("#text").text_content() == wanted["text"], path
        confidence = float(page.locator("#confidence").text_content().split()[1])
        tolerance = 0.02 if path.endswith("jpg") else 0.001  # JPEG decoders may differ by a level
        assert confidence == pytest.approx(wanted["confidence"], abs=tolerance), path
    page.locator("input").first.set_input_files(str(root / "README.md"))
    expect(page.locator("#message")).to_contain_text("Not read: ")
    expect(page.locator("#text")).to_be_empty()
    page.close()
    assert problems == []
