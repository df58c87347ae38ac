"""Convolutions and LSTMs for the CPU that are faster than XLA's: oneDNN's and `native.cc`.

    if native.available():
        y = native.convolution(x, kernel, bias, width, 1, True)

`native.cc` is compiled on first use, by the C++ compiler that is there, for this very processor,
and kept in the user's cache. Without a compiler or oneDNN's packages XLA does the work. Programs
lowered for another platform never contain the native calls.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SOURCE = Path(__file__).with_suffix(".cc")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-shared", "-fPIC", "-fopenmp")
LSTM_UNITS = 16  # that the width of an LSTM must divide by: floats of a vector at most
TARGETS = (
    "conv_pack",
    "conv_forward",
    "conv_backward_input",
    "conv_backward_kernel",
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
    library.supports_bfloat16.restype = ctypes.c_bool
    library.packed_size.restype = ctypes.c_int64
    _loaded.append(library)
    return ""


_loaded: list[ctypes.CDLL] = []


def supports_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32, and oneDNN can use that."""
    return available() and bool(_loaded[0].supports_bfloat16())


def _compiled() -> Path:
    """The shared library of this source, processor, jaxlib and oneDNN; compiled if need be."""
    devel = importlib.metadata.distribution("onednn-devel-cpu-gomp")
    library = _file(importlib.metadata.distribution("onednn-cpu-gomp"), "libdnnl.so.3").parent
    header = _file(devel, "oneapi/dnnl/dnnl.hpp")
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jaxlib", "onednn-cpu-gomp")]
    key = "\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS, *versions, str(library), _cpu()])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crnn_jax" / "native"
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
        command = [compiler, *FLAGS, *include, str(SOURCE), "-o", str(made), *link]
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


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _call(name: str, results: Any) -> Callable[..., Any]:
    return jax.ffi.ffi_call(f"crnn_jax_{name}", results, vmap_method="sequential")


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def convolution(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, width: jax.Array, padding: int, relu: bool
) -> jax.Array:
    """A convolution with bias and, where asked for, ReLU and zeros right of the real width.

    Args:
      x: [b, h, w, i], float32 or bfloat16, which is what is multiplied; sums are float32.
      kernel: float32 [kh, kw, i, o].
      bias: float32 [o].
      width: int32 [b], real columns of the result; counts with `relu` only.
      padding: zeros on each side.
      relu: whether to apply it, and to set columns at or right of `width` to 0.

    Returns:
      [b, h', w', o] of x's dtype.
    """
    native = partial(_native_convolution, panels=None, padding=padding, relu=relu)
    other = partial(xla_convolution, padding=padding, relu=relu)
    return lax.platform_dependent(x, kernel, bias, width, cpu=native, default=other)


def pack_kernel(kernel: jax.Array) -> jax.Array:
    """A kernel [k, k, i, o] laid out for single pictures, flat, for `packed_convolution`."""
    k, _, i, o = map(ctypes.c_int64, kernel.shape)
    size = _loaded[0].packed_size(k, i, o)
    return _call("conv_pack", jax.ShapeDtypeStruct((size,), jnp.float32))(kernel)


def packed_convolution(
    x: jax.Array, kernel: jax.Array, panels: jax.Array, bias: jax.Array, width: jax.Array
) -> jax.Array:
    """`convolution` with ReLU for reading, with `panels` from `pack_kernel`; CPU only."""
    padding = 1 if kernel.shape[0] == 3 else 0
    return _native_convolution(x, kernel, bias, width, panels=panels, padding=padding, relu=True)


def _native_convolution(x, kernel, bias, width, *, panels, padding, relu):
    b, h, w, _ = x.shape
    k = kernel.shape[0]
    out = (b, h + 2 * padding - k + 1, w + 2 * padding - k + 1, kernel.shape[3])
    call = _call("conv_forward", jax.ShapeDtypeStruct(out, x.dtype))
    panels = jnp.zeros((0,)) if panels is None else panels
    kernel = kernel.astype(x.dtype)
    return call(x, kernel, panels, bias, width, padding=np.int64(padding), relu=relu)


def xla_convolution(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    width: jax.Array | None,
    padding: int,
    relu: bool,
) -> jax.Array:
    """The same by XLA."""
    y = lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = y + bias.astype(y.dtype)[None, None, None, :]
    if not relu or width is None:
        return y
    real = jnp.arange(y.shape[2], dtype=jnp.int32)[None, :] < width[:, None]
    return jnp.where(real[:, None, :, None], jax.nn.relu(y), jnp.zeros((), y.dtype))


def _convolution_forward(x, kernel, bias, width, padding, relu):
    y = convolution(x, kernel, bias, width, padding, relu)
    return y, (x, kernel, bias, y if relu else None)


def _convolution_backward(padding, relu, saved, dy):
    x, kernel, bias, y = saved
    if relu:  # and the mask: what was cut to 0 takes no gradient
        dy = jnp.where(y > 0, dy, jnp.zeros((), dy.dtype))

    def native(x, kernel, bias, dy):
        pad = np.int64(padding)
        by_kernel = _call("conv_backward_kernel", (_like(kernel), _like(bias)))
        by_input = _call("conv_backward_input", _like(x))
        return by_input(dy, kernel.astype(x.dtype), padding=pad), *by_kernel(x, dy, padding=pad)

    def other(x, kernel, bias, dy):
        linear = partial(xla_convolution, width=None, padding=padding, relu=False)
        return jax.vjp(linear, x, kernel, bias)[1](dy)

    return *lax.platform_dependent(x, kernel, bias, dy, cpu=native, default=other), None


convolution.defvjp(_convolution_forward, _convolution_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def lstm(
    other: Callable[..., jax.Array],
    x: jax.Array,
    kernel: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    lengths: jax.Array,
) -> jax.Array:
    """Both directions of an LSTM over time.

    Args:
      other: the same function of the other arguments, for platforms that are no CPU.
      x: float32 [t, b, d].
      kernel: float32 [d, 8 h], gates i, f, g, o of the forward and then of the backward direction;
        h divides by LSTM_UNITS.
      recurrent: float32 [2, h, 4 h].
      bias: float32 [8 h].
      lengths: int32 [b], real frames.

    Returns:
      float32 [t, b, 2 h], 0 at and behind a row's length.
    """
    arguments = (x, kernel, recurrent, bias, lengths)
    return lax.platform_dependent(*arguments, cpu=packed_lstm, default=other)


def pack_lstm(kernel: jax.Array, recurrent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both kernels flat, in the layout that `packed_lstm` works with."""
    flat = (jax.ShapeDtypeStruct((a.size,), jnp.float32) for a in (kernel, recurrent))
    return tuple(_call("lstm_pack", tuple(flat))(kernel, recurrent))


def packed_lstm(
    x: jax.Array, kernel: jax.Array, recurrent: jax.Array, bias: jax.Array, lengths: jax.Array
) -> jax.Array:
    """`lstm` for reading, its kernels as they are or packed; CPU only."""
    none = jax.ShapeDtypeStruct((0,), jnp.float32)
    results = (_frames(x, bias, 4), none, none)
    return _call("lstm_forward", results)(x, kernel, recurrent, bias, lengths)[0]


def _frames(x: jax.Array, bias: jax.Array, part: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*x.shape[:2], bias.shape[0] // part), jnp.float32)


def _lstm_forward(other, *arguments):
    x, _, _, bias, _ = arguments
    results = (_frames(x, bias, 4), _frames(x, bias, 4), _frames(x, bias, 1))

    def default(*arguments):
        return other(*arguments), *(jnp.zeros(r.shape, r.dtype) for r in results[1:])

    native = _call("lstm_forward", results)
    saved = lax.platform_dependent(*arguments, cpu=lambda *a: tuple(native(*a)), default=default)
    return saved[0], (arguments, saved)


def _lstm_backward(other, saved, d_hs):
    (*arguments, lengths), saved = saved
    results = tuple(map(_like, arguments))

    def native(d_hs, x, kernel, recurrent, _):
        return tuple(_call("lstm_backward", results)(d_hs, x, kernel, recurrent, *saved))

    def default(d_hs, *arguments):
        return jax.vjp(lambda *a: other(*a, lengths), *arguments)[1](d_hs)

    return *lax.platform_dependent(d_hs, *arguments, cpu=native, default=default), None


lstm.defvjp(_lstm_forward, _lstm_backward)
