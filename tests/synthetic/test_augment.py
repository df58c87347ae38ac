import pickle

import numpy as np
import pytest

from crnn_jax.core.errors import UserError
from crnn_jax.data.plan import generator
from crnn_jax.synthetic.augment import named


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"])
def image(request):
    picture = np.full((40, 130, request.param), 200, np.uint8)
    for left in range(10, 120, 14):
        picture[8:32, left : left + 5] = 40
    return picture


@pytest.mark.parametrize("name", ["light", "strong"])
def test_a_pure_function_of_its_generator(image, name):
    augment = named(name)
    before = image.copy()
    first = [augment(image, generator(0, "augment", 2, i)) for i in range(12)]
    again = [pickle.loads(pickle.dumps(augment))(image, generator(0, "augment", 2, i))  # noqa: S301
             for i in reversed(range(12))]  # fmt: skip
    np.testing.assert_array_equal(np.stack(first), np.stack(again[::-1]))
    np.testing.assert_array_equal(image, before)
    assert len({f.tobytes() for f in first}) >= 10
    for changed in first:
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8


def test_an_unknown_name_is_told():
    with pytest.raises(UserError, match="fierce"):
        named("fierce")
