"""How the tests run JAX: on the CPU, strict, with eight virtual devices and a compilation cache.

The environment is set for the processes that tests start, `jax.config` for this one; both before
any backend exists. Started processes see one device, as a user's would; here there are eight, and a
test that is about one says `jax.devices()[:1]`.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's advice on CPU flags, each start

from crnn_jax import cli, cpu_settings
from crnn_jax.reading import compilation_cache

cpu_settings.turn_off_ynnpack()  # as the commands do

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
NUM_DEVICES = 8


CACHE = ROOT / ".cache" / "jax" / compilation_cache.machine()
compilation_cache.drop_damaged(CACHE)  # an interrupted run leaves some half-written
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
# JAX keeps what took a second to compile; the tests' tiny networks take less, but there are many:
# half the time of a first run (one process uses what the other compiled), a fifth of the next.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs",
    float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
)
# Most of a test's time is compiling, and unoptimised code takes half of it. Started processes run
# what a user runs.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
# [b] + [b, t] is a mistake far more often than a wish.
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline: the first example compiles. In CI the same examples every time: a change is not
# stopped by what another one broke.
hypothesis.settings.register_profile("crnn_jax", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("crnn_jax")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    """The path of a tiny model file; tests leave it as it is."""
    from tests.testdata.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, as Playwright drives it."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with api.sync_playwright() as started:
        # As root, as in a container, its sandbox does not start; the pages are our own.
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command's `main`: (exit code, lines of stdout, lines of stderr)."""
    monkeypatch.setattr("crnn_jax.cpu_settings.apply", lambda: None)  # JAX runs already
    monkeypatch.setattr("sys.path", [*sys.path])  # configs put their folder there
    monkeypatch.setattr("sys.argv", ["crnn-jax"])

    def run(command, *words):
        with pytest.raises(SystemExit) as stopped:
            cli.run(command.main, [str(word) for word in words])
        out, err = capsys.readouterr()
        return stopped.value.code, out.splitlines(), err.splitlines()

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole training runs come first: the longest file, started last, would run alone."""
    items.sort(key=lambda item: "training" not in item.path.parts)
