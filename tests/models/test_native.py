"""The CPU's own convolutions and LSTMs against XLA's, and what happens where they cannot be had."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crnn_jax.core.geometry import GEOMETRIES
from crnn_jax.models import native_library as library
from crnn_jax.models.config import get_model_config
from crnn_jax.models.crnn import CRNN, prepare
from crnn_jax.models.layers import Convolution, MaskedBatchNorm
from crnn_jax.models.lstm import BiLSTM
from crnn_jax.training.state import init_variables, traced_init

needs_native = pytest.mark.skipif(not library.available(), reason=library.unavailable())
CLASSES = 11


def _normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _close(found, expected, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, float(jnp.abs(b).max())))


@needs_native
@pytest.mark.parametrize(
    ("batch", "height", "width", "channels", "filters", "size", "stride_w", "geometry"),
    [
        (1, 4, 7, 1, 8, 3, 0, "keras"),  # fewer pictures than threads
        (1, 2, 9, 40, 24, 2, 0, "keras"),
        (9, 4, 13, 20, 36, 3, 2, "torch"),  # tiles that are not full
        (9, 4, 8, 20, 36, 3, 1, "keras"),
        (19, 6, 5, 24, 24, 3, 1, "torch"),
    ],
)
@pytest.mark.parametrize("relu", [True, False])
def test_convolution_and_its_gradients(
    batch, height, width, channels, filters, size, stride_w, geometry, relu
):
    rng = np.random.default_rng(0)
    x = _normal(rng, batch, height, width, channels)
    real = jnp.asarray(rng.integers(0, width + 1, batch), jnp.int32)
    layers = [
        Convolution(filters, size, True, native, stride_w if relu else 0, geometry)
        for native in (True, False)
    ]
    variables = layers[1].init(jax.random.key(0), x, real, relu=relu)
    variables["params"]["bias"] = _normal(rng, filters)
    y = layers[1].apply(variables, x, real, relu=relu)
    d_y = _normal(rng, *y.shape)

    def both(layer):
        y, pull = jax.vjp(lambda v, x: layer.apply(v, x, real, relu=relu), variables, x)
        return y, pull(d_y)

    _close(jax.jit(lambda: both(layers[0]))(), both(layers[1]))
    _close(jax.jit(lambda: layers[0].apply(variables, x, real, relu=relu))(), y)


@needs_native
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_batch_norm_and_its_gradients(dtype, tolerance):
    rng = np.random.default_rng(0)
    x = (3 + 2 * _normal(rng, 5, 3, 7, 20)).astype(dtype)
    width = jnp.array([7, 5, 0, 1, 7], jnp.int32)
    d_y = _normal(rng, *x.shape).astype(dtype)

    def results(use_native, x, d_y):
        norm = MaskedBatchNorm(20, 0.9, 1e-3, use_native=use_native)
        variables = norm.init(jax.random.key(0), x, width)
        variables["params"] = {"scale": _normal(np.random.default_rng(1), 20), "bias": jnp.ones(20)}

        def apply(params, x):
            variables_of = variables | {"params": params}
            return norm.apply(variables_of, x, width, mutable="batch_stats")

        y, pull, updates = jax.vjp(apply, variables["params"], x, has_aux=True)
        return y, pull(d_y), updates

    expected = results(False, x.astype(jnp.float32), d_y.astype(jnp.float32))
    found = jax.jit(lambda: results(True, x, d_y))()
    assert found[0].dtype == dtype
    _close(jax.tree.map(lambda a: a.astype(jnp.float32), found), expected, tolerance)


@needs_native
@pytest.mark.parametrize(("batch", "hidden", "size"), [(1, 16, 5), (7, 32, 40)])
def test_lstm_and_its_gradients(batch, hidden, size):
    rng = np.random.default_rng(0)
    x, weights = _normal(rng, 6, batch, size), _normal(rng, 6, batch, 2 * hidden)
    lengths = jnp.asarray(rng.integers(0, 7, batch), jnp.int32)
    variables = BiLSTM(hidden).init(jax.random.key(0), x, lengths)

    def loss(variables, x, use_native):
        hs = BiLSTM(hidden, use_native=use_native).apply(variables, x, lengths)
        return jnp.sum(weights * hs), hs

    results = [
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)(
            variables, x, use_native
        )
        for use_native in (True, False)
    ]
    _close(*results)


def _loss(model, variables, image, width, *, train=True):
    (logits, lengths), _ = model.apply(
        variables, image, width, train=train, mutable=["batch_stats"]
    )
    real = jnp.arange(logits.shape[1])[None, :] < lengths[:, None]
    return jnp.sum(jnp.sin(logits) * real[..., None])


def _pictures(batch=5, width=48):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (batch, 32, width, 1), dtype=np.uint8)
    widths = np.resize(np.array([width, 40, 33, 5, 0], np.int32), batch)
    return image, widths


@needs_native
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_network_reads_and_learns_as_with_xla(geometry):
    sizes = {"num_classes": CLASSES, "residual": (4, 6)}
    config = get_model_config("crnn_tiny", geometry=geometry, **sizes)
    own, xla = (CRNN(config, convolution=c) for c in ("onednn", "xla"))
    variables = init_variables(xla, 0)
    for i in config.residual:  # they begin as zeros
        kernel = variables["params"][f"res{i}b"]["kernel"]
        noise = np.random.default_rng(i).normal(0, 0.1, kernel.shape).astype(np.float32)
        variables["params"][f"res{i}b"]["kernel"] = noise
    image, width = _pictures()

    def read(model, variables, image=image, width=width):
        return jax.jit(partial(model.apply, train=False))(variables, image, width)

    expected = read(xla, variables)
    _close(read(own, variables), expected)
    ready = prepare(own, variables)
    assert "packed" in ready
    assert "packed" not in prepare(xla, variables)
    _close(read(own, ready), expected)
    for i in range(2):  # alone, by the kernels laid out for that
        one = read(own, ready, image[i : i + 1], width[i : i + 1])
        _close(one, jax.tree.map(lambda a, i=i: a[i : i + 1], expected))

    def gradient(model):
        rest = {"batch_stats": variables["batch_stats"]}
        loss = jax.jit(jax.grad(lambda p: _loss(model, rest | {"params": p}, image, width)))
        return loss(variables["params"])

    found, expected = gradient(own), gradient(xla)
    norm = float(jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(expected))))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert float(jnp.linalg.norm((a - b).ravel())) < 1e-5 * norm


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_platforms_never_see_it(dtype):
    config = get_model_config("crnn_tiny", num_classes=CLASSES, dtype=dtype)
    variables = jax.eval_shape(partial(traced_init, CRNN(config)), jax.random.key(0))
    image, width = _pictures()
    choice = "onednn" if library.available() else "auto"
    step = jax.jit(jax.grad(lambda v: _loss(CRNN(config, convolution=choice), v, image, width)))
    traced = step.trace(variables)
    for platform in ("cuda", "tpu"):
        assert "crnn_jax_" not in traced.lower(lowering_platforms=(platform,)).as_text()
    if library.available() and dtype == "float32":
        assert "crnn_jax_conv_forward" in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_bfloat16_is_near_float32():
    image, width = _pictures()

    def results(dtype):
        config = get_model_config("crnn_tiny", num_classes=CLASSES, dtype=dtype)
        model = CRNN(config, convolution="onednn" if library.available() else "xla")
        variables = init_variables(model, 0)
        logits, _ = jax.eval_shape(partial(model.apply, train=False), variables, image, width)
        assert logits.dtype == jnp.float32
        rest = {"batch_stats": variables["batch_stats"]}
        loss = jax.value_and_grad(lambda p: _loss(model, rest | {"params": p}, image, width))
        return jax.jit(loss)(variables["params"])

    (loss, grads), (low_loss, low_grads) = results("float32"), results("bfloat16")
    assert abs(low_loss - loss) < 0.02 * abs(loss) + 0.5
    assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(low_grads))
    flat = [jnp.concatenate([g.ravel() for g in jax.tree.leaves(t)]) for t in (grads, low_grads)]
    cosine = jnp.vdot(*flat) / jnp.prod(jnp.array([jnp.linalg.norm(f) for f in flat]))
    assert cosine > 0.97  # of a small net with random weights, activations of 8 bits


def test_what_auto_means_on_this_processor():
    assert library.wanted("auto", axis_name="batch") == library.available()
    assert library.resolve_dtype("auto", "xla") == "float32"
    assert library.supports_bfloat16() or not library.prefers_bfloat16()


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"CXX": "/no/compiler"}, {"CXX": "false"}])
def test_without_a_compiler_xla_does_the_work(tmp_path, root, environment):
    program = (
        "from crnn_jax.models import native_library as library\n"
        "from crnn_jax import Recognizer\n"
        "print(library.available(), library.wanted('auto'))\n"
        "print(Recognizer.load().read('example/images/1_Hotel_1.jpg')[0].text)"
    )
    environment = os.environ | environment | {"XDG_CACHE_HOME": str(tmp_path)}
    options = {"env": environment, "cwd": root, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", program], check=True, **options)
    assert done.stdout.split() == ["False", "False", "hotel"]


@needs_native
def test_a_compiler_may_have_arguments(tmp_path, monkeypatch):
    def compile_it(command, **_):
        commands.append(command)
        Path(command[command.index("-o") + 1]).write_bytes(b"")

    commands = []
    monkeypatch.setenv("CXX", "ccache g++")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library.subprocess, "run", compile_it)
    library._compiled()
    assert commands[0][:2] == ["ccache", "g++"]
