"""Real scene words (ICDAR 2015 challenge 4, task 4.3: 4,468 training crops), from scratch.

    python -m crnn_jax.main --config=configs/icdar2015.py --config.data.train=train/gt.txt

RESULT: to be measured.
"""

import ml_collections

from configs import mjsynth


def get_config() -> ml_collections.ConfigDict:
    config = mjsynth.get_config()
    with config.unlocked():
        config.epochs = 15.0
        config.batch_size = 32
        config.model.name = "crnn_small"
        config.preprocessing.width = 0
        config.preprocessing.max_width = 256
        config.data.train = "gt.txt"
        config.data.split = "hash"
        config.data.boundaries = (40, 56, 72, 88, 104, 128, 168, 256)
        config.data.augment = "light"
        config.optimizer.warmup_steps = 100
        config.optimizer.ema = 0.99
        config.evaluation.every_steps = 0
        config.evaluation.batch_size = 64
        config.checkpoint.every_steps = 200
        config.log.every_steps = 42
    return config
