"""Padding is never seen: the project's first invariant, in both geometries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_jax.core.geometry import GEOMETRIES, num_frames
from crnn_jax.models.config import get_model_config
from crnn_jax.models.crnn import CRNN
from crnn_jax.training.state import init_variables

CLASSES = 12
PADDED = 96  # one shape, or every example would compile


@functools.cache
def made(geometry, seed=1):
    """(model, variables): batch statistics are far from those of a fresh network."""
    sizes = {"num_classes": CLASSES, "residual": (4, 6)}
    model = CRNN(get_model_config("crnn_tiny", geometry=geometry, **sizes))
    variables = init_variables(model, seed)
    rng = np.random.default_rng(seed)
    noise = jax.tree.map(lambda a: rng.normal(0, 0.1, a.shape).astype(np.float32), variables)
    noise["batch_stats"] = jax.tree.map(np.abs, noise["batch_stats"])  # variances stay positive
    return model, jax.tree.map(np.add, variables, noise)


@functools.partial(jax.jit, static_argnums=0)
def _apply(geometry, variables, image, width):
    return made(geometry)[0].apply(variables, image, width, train=False)


def read(geometry, image, width):
    return _apply(geometry, made(geometry)[1], image, width)


def _pictures(seed, widths):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (32, w, 1), dtype=np.uint8) for w in widths]


def _batch(pictures, fill=0):
    image = np.full((len(pictures), 32, PADDED, 1), fill, np.uint8)
    for row, picture in zip(image, pictures, strict=True):
        row[:, : picture.shape[1]] = picture
    return image, np.array([p.shape[1] for p in pictures], np.int32)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(5, PADDED), min_size=3, max_size=3), st.integers(0, 10**6))
def test_logits_do_not_depend_on_neighbours_order_or_padding(geometry, widths, seed):
    pictures = _pictures(seed, widths)
    together, lengths = read(geometry, *_batch(pictures))
    reversed_, _ = read(geometry, *_batch(pictures[::-1], fill=255))
    for i, width in enumerate(widths):
        frames = int(lengths[i])
        assert frames == num_frames(width, geometry)
        np.testing.assert_allclose(
            together[i, :frames], reversed_[len(widths) - 1 - i, :frames], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("width", [33, 50])
def test_logits_alone_and_unpadded_are_those_in_a_padded_batch(geometry, width):
    pictures = _pictures(0, [width, PADDED, 20])
    together, lengths = read(geometry, *_batch(pictures))
    alone, length = read(geometry, pictures[0][None], np.array([width], np.int32))
    assert alone.shape[1] == int(length[0]) == int(lengths[0])
    np.testing.assert_allclose(alone[0], together[0, : int(length[0])], atol=1e-4, rtol=0)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("train", [False, True])
def test_gradient_with_respect_to_padded_columns_is_exactly_zero(geometry, train):
    model, variables = made(geometry)
    image, width = _batch(_pictures(3, [41, PADDED, 18]))
    # Floating input is taken as normalised: uint8 has no gradient.
    image = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)

    def total(x):
        (logits, lengths), _ = model.apply(variables, x, width, train=train, mutable="batch_stats")
        real = jnp.arange(logits.shape[1])[None, :] < lengths[:, None]
        return jnp.sum(jnp.where(real[..., None], jnp.sin(logits), 0))

    gradient = np.asarray(jax.jit(jax.grad(total))(image))
    for row, w in zip(gradient, width, strict=True):
        assert np.all(row[:, w:] == 0)
        assert np.abs(row[:, w - 3 : w]).max() > 0


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_training_moments_count_real_columns_of_real_samples_only(geometry):
    model, variables = made(geometry)
    image, width = _batch(_pictures(4, [41, 77]))
    apply = jax.jit(lambda x, w: model.apply(variables, x, w, train=True, mutable="batch_stats"))
    _, alone = apply(image, width)
    filler = np.full_like(image, 200)
    _, padded = apply(np.concatenate([image, filler]), np.concatenate([width, 0 * width]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, padded)
    _, nothing = apply(filler, 0 * width)
    jax.tree.map(np.testing.assert_array_equal, nothing["batch_stats"], variables["batch_stats"])
