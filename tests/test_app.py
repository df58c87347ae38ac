"""The page reads a picture that is put on it, in a browser, without internet."""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
from PIL import Image

from crnn_jax.core.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def recognizer():
    from crnn_jax.reading.recognizer import Recognizer

    return Recognizer.load()


@pytest.fixture
def picture(root):
    with Image.open(sorted((root / "example" / "images").glob("*Hotel*"))[0]) as opened:
        return opened.copy()


def test_what_the_page_shows(recognizer, picture):
    from crnn_jax.reading.page import answer

    text, sure, drawn, characters, others = answer(recognizer, picture, "greedy", 10, "")
    assert text == "hotel"
    assert 0.5 < float(sure) <= 1
    assert [row[0] for row in characters] == list("hotel")
    assert others == []
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] == 120 + 34
    _, _, _, _, others = answer(recognizer, picture, "beam", 10, "")
    assert others
    assert answer(recognizer, picture, "beam", 10, "motel\nhostel\n")[0] in ("motel", "hostel")
    assert answer(recognizer, None, "beam", 10, "")[0] == ""
    with pytest.raises(UserError, match="at most 100,000"):
        answer(recognizer, picture, "beam", 10, " ".join(map(str, range(100_001))))


def png_of(side):
    """A PNG that says it has so many pixels and has none."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def test_odd_pictures(recognizer):
    from crnn_jax.reading.page import answer

    for mode, size in (("L", (1, 1)), ("RGBA", (1, 3000)), ("P", (3000, 1))):
        drawn = answer(recognizer, Image.new(mode, size), "greedy", 10, "")[2]
        assert drawn.shape[1] <= 1600


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"picture": b""}, "this picture cannot be read: empty file"),
        ({"picture": png_of(65_535)}, "this picture cannot be read: over 50 megapixels"),
        ({"decoder": "beam", "width": float("nan")}, "a beam of nan; from 2 to 100 here"),
        ({"words": "ab" * 51}, "a word of 102 letters; at most 100 here"),
        ({"words": "a b"}, "a lexicon goes with the decoder beam"),
        (
            {"words": "\0 \u202e", "decoder": "beam"},
            "none of 2 words is of the table's characters",
        ),
    ],
)
def test_what_is_beyond_the_pages_bounds_gets_one_line(recognizer, picture, asked, told):
    from crnn_jax.reading.page import answer

    question = {"picture": picture, "decoder": "greedy", "width": 10, "words": ""} | asked
    with pytest.raises(UserError, match=f"^{re.escape(told)}|{re.escape(told)}$"):
        answer(recognizer, **question)


@pytest.fixture(scope="module")
def app(root, tmp_path_factory):
    """The page in a process of its own: its address, that process, its log."""
    pytest.importorskip("gradio", reason="the page is an extra")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "crnn_jax.app", f"--port={port}"]
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    tmp_path = tmp_path_factory.mktemp("app")
    (sent := tmp_path / "sent").mkdir()
    environment["TMPDIR"] = str(sent)
    log = tmp_path / "log"
    with log.open("w") as stream:
        run = subprocess.Popen(words, cwd=root, env=environment, stdout=stream, stderr=stream)
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
        yield found, run, log
    finally:
        run.terminate()
        run.wait()
    assert list(sent.iterdir()) == []  # what was sent is gone with the page


@pytest.fixture(scope="module")
def address(app):
    return app[0]


class Client:
    """Asks the page as a program would."""

    def __init__(self, address):
        self.address = f"{address}/gradio_api"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, place, data=None, kind="application/json"):
        headers = {} if data is None else {"Content-Type": kind}
        request = urllib.request.Request(f"{self.address}/{place}", data, headers)
        try:
            with self.opener.open(request, timeout=300) as told:
                return told.status, told.read().decode("utf-8", "replace")
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

    def read(self, data, *others):
        """What the page answers to a picture's bytes and the other fields."""
        (path,) = json.loads(self.send(data)[1])
        sent = {"path": path, "meta": {"_type": "gradio.FileData"}}
        return self.call({"data": [sent, *others]})

    def call(self, question):
        status, told = self.ask("call/read", json.dumps(question).encode())
        if status != 200:
            return str(status)
        return self.ask(f"call/read/{json.loads(told)['event_id']}")[1]


@pytest.mark.slow
def test_nothing_but_pictures_goes_out_and_nothing_too_large_comes_in(address, root):
    client = Client(address)
    images = root / "example" / "images"
    assert client.ask(f"file={min(images.iterdir())}")[0] == 200
    for outside in ("/etc/passwd", f"{images}/../table.txt", f"{root}/README.md"):
        assert client.ask(f"file={outside}")[0] == 403
    assert client.send(b"\0" * (21 << 20))[0] == 413
    told = client.read(png_of(65_535), "greedy", 10, "")
    assert "this picture cannot be read: over 50 megapixels" in told


@pytest.mark.slow
def test_pictures_that_lie_on_the_server_are_not_read(address, root, tmp_path):
    shutil.copy(sorted((root / "example" / "images").glob("*Hotel*"))[0], tmp_path / "a.jpg")
    for more in ({}, {"meta": {"_type": "gradio.FileData"}}):
        told = Client(address).call(
            {"data": [{"path": f"{tmp_path}/a.jpg", **more}, "greedy", 10, ""]}
        )
        assert told.startswith("event: error")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_a_browser(address, root, tmp_path):
    api = pytest.importorskip("playwright.sync_api")
    picture = sorted((root / "example" / "images").glob("*Hotel*"))[0]
    asked = []
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        tab.set_input_files("#picture input[type=file]", str(picture))
        field = tab.locator("#text textarea, #text input").first
        api.expect(field).to_have_value("hotel", timeout=60_000)
        tab.locator("#decoder").get_by_text("beam").click()
        cells = tab.locator("#alternatives").get_by_role("gridcell")
        api.expect(cells.nth(3)).to_be_visible(timeout=60_000)
        api.expect(tab.locator("#alignment img")).to_be_visible()
        if os.environ.get("CRNN_JAX_SCREENSHOT"):
            tab.wait_for_timeout(1000)
            tab.screenshot(path=os.environ["CRNN_JAX_SCREENSHOT"])
        browser.close()
    outside = [url for url in asked if not re.match(rf"{address}|data:|blob:", url)]
    assert outside == []  # nothing is fetched from elsewhere
