"""`native.cc` compiled and loaded, and when a network is to use it.

It is compiled on first use, by the C++ compiler that is there, for this very processor, and kept in
the user's cache. Without a compiler or oneDNN's packages XLA does the work.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from crnn_jax.core.files import user_cache

SOURCE = Path(__file__).with_name("native.cc")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-shared", "-fPIC", "-fopenmp")
TARGETS = (
    "conv_pack",
    "conv_forward",
    "relu_pool_backward",
    "conv_backward_input",
    "conv_backward_kernel",
    "norm_moments",
    "norm_apply",
    "norm_sums",
    "norm_gradient",
    "lstm_pack",
    "lstm_forward",
    "lstm_backward",
)


def wanted(choice: str, dtype: str = "float32", axis_name: str | None = None) -> bool:
    """Whether a network is to use these functions.

    Args:
      choice: 'auto', 'xla' or 'onednn', as `config.model.convolution`.
      dtype: of activations; bfloat16 only where the processor multiplies it.
      axis_name: of the mapped axis under `pmap`; None under `jit`, where XLA cannot cut a native
        call into parts for several devices, so that 'auto' means XLA there.
    """
    if choice == "auto":
        alone = axis_name is not None or jax.device_count() == 1
        fits = alone and jax.default_backend() == "cpu" and available()
    else:
        fits = choice == "onednn"
    return fits and (dtype == "float32" or supports_bfloat16())


def resolve_dtype(dtype: str, choice: str = "auto") -> str:
    """What a run's 'auto' means here: bfloat16 on a CPU where that is faster, else float32."""
    if dtype != "auto":
        return dtype
    on_cpu = jax.default_backend() == "cpu"
    fast = on_cpu and wanted(choice, "bfloat16") and prefers_bfloat16()
    return "bfloat16" if fast else "float32"


def available() -> bool:
    """Whether the functions are compiled and loaded; the first call does both."""
    return not unavailable()


@functools.cache
def unavailable() -> str:
    """Why the functions cannot be had, '' where they can."""
    try:
        library = ctypes.CDLL(str(_compiled()))
    except importlib.metadata.PackageNotFoundError as error:
        return f"{error.name} is not installed"
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or [str(error)]
        print(f"they do not compile, XLA convolves: {lines[0]}", file=sys.stderr)
        return lines[0]
    except OSError as error:
        return str(error)
    for name in TARGETS:
        target = jax.ffi.pycapsule(getattr(library, name))
        jax.ffi.register_ffi_target(f"crnn_jax_{name}", target, platform="cpu")
    library.packed_size.restype = ctypes.c_int64
    _loaded.append(library)
    return ""


_loaded: list[ctypes.CDLL] = []


def packed_size(kernel: jax.Array) -> int:
    """Floats of a kernel [k, k, i, o] laid out for single images."""
    size, _, i, o = map(ctypes.c_int64, kernel.shape)
    return int(_loaded[0].packed_size(size, i, o))


def supports_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16, and oneDNN can use that."""
    return available() and _loaded[0].bfloat16_support() > 0


def prefers_bfloat16() -> bool:
    """Whether it does so faster than it multiplies float32."""
    return available() and _loaded[0].bfloat16_support() > 1


def _compiled() -> Path:
    """The shared library of this source, processor, jaxlib and oneDNN; compiled if need be."""
    devel = importlib.metadata.distribution("onednn-devel-cpu-gomp")
    library = _file(importlib.metadata.distribution("onednn-cpu-gomp"), "libdnnl.so.3").parent
    header = _file(devel, "oneapi/dnnl/dnnl.hpp")
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jaxlib", "onednn-cpu-gomp")]
    key = "\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS, *versions, str(library), _cpu()])
    cache = user_cache() / "native"
    found = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if found.exists():
        return found
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise OSError("no C++ compiler")
    print("compiling convolutions for this processor, once: about 20 s", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / "native.so"
        include = [f"-I{jax.ffi.include_dir()}", f"-I{header.parents[2]}"]
        link = [f"-L{library}", f"-Wl,-rpath,{library}", "-l:libdnnl.so.3"]
        command = [*shlex.split(compiler), *FLAGS, *include, str(SOURCE), "-o", str(made), *link]
        subprocess.run(command, check=True, capture_output=True, text=True)
        made.replace(found)  # whole at once: another process may be looking
    return found


def _file(distribution: importlib.metadata.Distribution, name: str) -> Path:
    for path in distribution.files or ():
        if str(path).endswith(name):
            return Path(os.path.normpath(str(path.locate())))
    raise OSError(f"{distribution.name} holds no {name}")


def _cpu() -> str:
    """What tells processors apart: `-march=native` is for this one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return "\n".join(dict.fromkeys(line for line in lines if line[:5] in ("model", "flags")))
