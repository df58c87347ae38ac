"""The page reads an image that is put on it, in a browser, without internet."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image, ImageFont

from crnn_jax.core.errors import UserError
from tests.testdata.png import png
from tests.testdata.tiny_model import noise_pictures


@pytest.fixture(scope="module")
def recognizer(model):
    from crnn_jax.reading.recognizer import Recognizer

    return Recognizer.load(model)


def test_what_the_page_shows(recognizer):
    from crnn_jax.reading.page import answer

    image = noise_pictures(1)[0]
    reading = recognizer.read(image)[0]
    text, sure, drawn, characters, others = answer(recognizer, image, "greedy", 10, "")
    assert (text, sure) == (reading.text, f"{reading.confidence:.4f}")
    assert [row[0] for row in characters] == list(text)
    assert others == []
    assert (drawn.dtype, drawn.shape[0]) == (np.uint8, 120 + 34)
    assert answer(recognizer, image, "beam", 10, "")[4]
    assert answer(recognizer, image, "beam", 10, f"{text}q\nother\n")[0] in (f"{text}q", "other")
    assert answer(recognizer, None, "beam", 10, "")[0] == ""


def test_letters_of_other_alphabets_are_drawn():
    from crnn_jax.reading.page import drawn
    from crnn_jax.reading.recognizer import Character, Reading

    try:
        ImageFont.truetype("DejaVuSans.ttf")
    except OSError:
        pytest.skip("no DejaVu on this machine")
    sheets = [
        drawn(Image.new("L", (60, 30)), Reading(letter, 1.0, (Character(letter, 1.0, 0, 60),)))
        for letter in "éЖ"
    ]
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": b""}, "empty file"),
        ({"image": png(65_535, 65_535)}, "over 50 megapixels"),
        ({"decoder": "beam", "width": float("nan")}, "a beam of nan"),
        ({"words": "ab" * 51}, "a word of 102 letters"),
        ({"words": "\n".join(map(str, range(100_001)))}, "at most 100,000"),
        ({"words": "a b"}, "decoder beam"),
        ({"decoder": "beam", "words": "a b\n\na b "}, "none of 1 words"),  # spaces are letters
    ],
)
def test_what_is_beyond_the_bounds_of_the_page(recognizer, changes, message):
    from crnn_jax.reading.page import answer

    question = {"image": noise_pictures(1)[0], "decoder": "greedy", "width": 10, "words": ""}
    with pytest.raises(UserError, match=re.escape(message)):
        answer(recognizer, **question | changes)


@pytest.fixture(scope="module")
def address(root, tmp_path_factory):
    """The page in a process of its own."""
    pytest.importorskip("gradio", reason="the page is an extra")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "crnn_jax.app", f"--port={port}"]
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    sent = tmp_path_factory.mktemp("sent")
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("w") as stream:
        run = subprocess.Popen(
            words, cwd=root, env=environment | {"TMPDIR": str(sent)}, stdout=stream, stderr=stream
        )
    try:
        found = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(found).read()
                break
            except OSError:
                assert run.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
        yield found
    finally:
        run.terminate()
        run.wait()
    assert list(sent.iterdir()) == []  # what was sent is gone with the page


class Client:
    """Asks the page as a program would."""

    def __init__(self, address):
        self.address = f"{address}/gradio_api"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, place, data=None, kind="application/json"):
        headers = {} if data is None else {"Content-Type": kind}
        request = urllib.request.Request(f"{self.address}/{place}", data, headers)
        try:
            with self.opener.open(request, timeout=300) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, ""
        except (ConnectionError, urllib.error.URLError):
            return 413, ""  # refused, and closed before all was sent

    def send(self, data):
        head = (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a.png"\r\n\r\n'
        )
        whole = head + data + b"\r\n--x--\r\n"
        return self.ask("upload", whole, "multipart/form-data; boundary=x")

    def read(self, picture):
        """What the page answers to a picture's fields."""
        data = json.dumps({"data": [picture, "greedy", 10, ""]}).encode()
        event = json.loads(self.ask("call/read", data)[1])["event_id"]
        return self.ask(f"call/read/{event}")[1]


@pytest.mark.slow
def test_nothing_but_pictures_goes_out_and_nothing_too_large_comes_in(address, root, tmp_path):
    client = Client(address)
    images = root / "example" / "images"
    assert client.ask(f"file={min(images.iterdir())}")[0] == 200
    for outside in ("/etc/passwd", f"{images}/../table.txt", f"{root}/README.md"):
        assert client.ask(f"file={outside}")[0] == 403
    assert client.send(b"\0" * (21 << 20))[0] == 413
    (path,) = json.loads(client.send(png(65_535, 65_535))[1])
    file_data = {"meta": {"_type": "gradio.FileData"}}
    assert "over 50 megapixels" in client.read({"path": path, **file_data})
    # Nor is a file read that lies on the server.
    shutil.copy(min(images.iterdir()), tmp_path / "a.jpg")
    for more in ({}, file_data):
        assert client.read({"path": f"{tmp_path}/a.jpg", **more}).startswith("event: error")


@pytest.mark.slow
def test_in_a_browser(address, browser, root):
    expect = pytest.importorskip("playwright.sync_api").expect
    picture = sorted((root / "example" / "images").glob("*Hotel*"))[0]
    asked = []
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(address)
    tab.set_input_files("#picture input[type=file]", str(picture))
    field = tab.locator("#text textarea, #text input").first
    expect(field).to_have_value("hotel", timeout=60_000)
    tab.locator("#decoder").get_by_text("beam").click()
    cells = tab.locator("#alternatives").get_by_role("gridcell")
    expect(cells.nth(3)).to_be_visible(timeout=60_000)
    expect(tab.locator("#alignment img")).to_be_visible()
    tab.close()
    # Nothing is fetched from elsewhere.
    assert [url for url in asked if not re.match(rf"{address}|data:|blob:", url)] == []
