"""A tiny network and data set for tests: rendered words, seconds on a laptop.

python -m crnn_jax.main --config=configs/tiny.py
"""

import ml_collections

from configs import mjsynth


def get_config() -> ml_collections.ConfigDict:
    config = mjsynth.get_config()
    with config.unlocked():
        config.epochs = 0.0
        config.steps = 20
        config.batch_size = 8
        config.model.name = "crnn_tiny"
        config.preprocessing.width = 0
        config.preprocessing.max_width = 128
        config.data.train = "synthetic"
        config.data.bucket_boundaries = (64, 128)
        config.synthetic.style = "plain"
        config.synthetic.words = "builtin"
        config.synthetic.fonts = "builtin"
        config.synthetic.count = 512
        config.evaluation.batch_size = 8
        config.checkpoint.every_steps = 10
        config.log.every_steps = 5
        config.log.tensorboard = False
    return config
