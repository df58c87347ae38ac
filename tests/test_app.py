"""The page reads a picture that is put on it, in a browser, without internet."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from crnn_jax.spec.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def recognizer():
    from crnn_jax.deploy.recognizer import Recognizer

    return Recognizer.load()


@pytest.fixture
def picture(root):
    return Image.open(sorted((root / "example" / "images").glob("*Hotel*"))[0])


def test_what_the_page_shows(recognizer, picture):
    from crnn_jax.deploy.page import answer

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


def test_odd_pictures(recognizer):
    from crnn_jax.deploy.page import answer

    for size in ((1, 1), (1, 3000), (3000, 1)):
        for mode in ("L", "RGBA", "P"):
            drawn = answer(recognizer, Image.new(mode, size), "greedy", 10, "")[2]
            assert drawn.shape[1] <= 1600


@pytest.fixture
def address(root, tmp_path):
    pytest.importorskip("gradio", reason="the page is an extra")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "crnn_jax.app", f"--port={port}"]
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
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
        yield found
    finally:
        run.terminate()
        run.wait()


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
