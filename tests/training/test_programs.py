"""Training steps compiled ahead of their turn."""

import jax
import numpy as np

from crnn_jax.training.programs import Programs
from crnn_jax.training.logging import Clock


def _batch(width, labels=3):
    return {"image": np.ones((2, 4, width, 1)), "label": np.zeros((2, labels), np.int32)}


def test_each_shape_is_compiled_once_before_it_is_wanted():
    traced = []

    def step(state, batch):
        traced.append(batch["image"].shape)
        return state + batch["image"].sum(), {}

    programs = Programs(jax.jit(step), np.float32(0), [_batch(5), _batch(7)])
    programs.wait(_batch(7))
    assert programs.ready(_batch(7))
    state, _ = programs(np.float32(1), _batch(7))
    assert state == 1 + 2 * 4 * 7
    assert programs(np.float32(0), _batch(5))[0] == 2 * 4 * 5
    assert programs(np.float32(0), _batch(9))[0] == 2 * 4 * 9  # nobody said that it would come
    assert programs(np.float32(0), _batch(9, labels=4))[0] == 2 * 4 * 9
    assert len(traced) == 4
    programs.close()


def test_compiling_is_no_part_of_the_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    clock = Clock()
    clock.wait()
    clock.work()
    with clock.compiling():
        now[0] += 100
    now[0] += 2
    assert clock.take(batch_size=10)["speed/images_per_second"] == 5
    assert clock.seconds_a_step == 2
