"""Your own pictures, starting from the model that ships.

    python -m crnn_jax.main --config=configs/words.py --config.data.train=labels.txt

`data.train` is all it needs: an annotation file, several ('a.txt,b.txt*2'), or a folder whose file
names are the labels. The characters are those of the labels (name a table to add others); a tenth
of the pictures, chosen by a hash of their paths, is kept for validation; the run ends when five
epochs in a row brought nothing better. Where the model should go on reading other words too,
`--config.data.replay=0.5` mixes rendered ones in, half as many as there are pictures.
"""

import ml_collections

from configs import mjsynth


def get_config() -> ml_collections.ConfigDict:
    config = mjsynth.get_config()
    with config.unlocked():
        config.epochs = 20.0
        config.batch_size = 32
        config.init_from = "en_36"
        config.charset.table = ""
        config.charset.ignore_case = False
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
        config.evaluation.patience = 5
        config.evaluation.batch_size = 64
        config.checkpoint.every_steps = 200
        config.log.every_steps = 20
    return config
