"""Your own pictures, starting from the model that ships.

    python -m crnn_jax.main --config=configs/words.py --config.data.train=labels.txt

A tenth of the pictures, chosen by a hash of their paths, is kept for validation.
"""

import ml_collections

from configs import mjsynth


def get_config() -> ml_collections.ConfigDict:
    config = mjsynth.get_config()
    with config.unlocked():
        config.epochs = 20.0
        config.batch_size = 32
        config.init_from = "en_36"
        config.model.name = "crnn_small"
        config.model.bn_momentum = 0.95
        config.preprocessing.width = 0
        config.preprocessing.max_width = 256
        config.data.train = "labels.txt"
        config.data.split = "hash"
        config.data.boundaries = (48, 64, 80, 96, 112, 128, 160, 208, 256)
        config.data.augment = "light"
        config.optimizer.learning_rate = 3e-4
        config.optimizer.warmup_steps = 50
        config.optimizer.ema = 0.99
        config.evaluation.every_steps = 0
        config.evaluation.batch_size = 64
        config.checkpoint.every_steps = 200
        config.log.every_steps = 20
    return config
