"""The benchmarks' count of arithmetic, against counts by hand."""

import jax
import jax.numpy as jnp

from experiments.benchmarks import flops


def test_a_convolution_a_product_and_a_loop():
    def convolution(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=dimensions
        )

    shapes = jnp.ones((2, 8, 10, 3)), jnp.ones((3, 2, 3, 5))
    assert flops.of(jax.jit(convolution), *shapes) == 2 * (2 * 6 * 9 * 5) * (3 * 2 * 3)
    assert flops.of(jnp.matmul, jnp.ones((4, 6)), jnp.ones((6, 5))) == 2 * 4 * 5 * 6

    def loop(a):
        return jax.lax.scan(lambda carry, _: (carry @ a, None), a, None, length=7)[0]

    assert flops.of(loop, jnp.ones((4, 4))) == 7 * 2 * 4**3
    assert flops.of(jax.grad(lambda a: loop(a).sum()), jnp.ones((4, 4))) == 3 * 7 * 2 * 4**3
