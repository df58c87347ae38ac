"""Words rendered on the fly; no download is needed.

    python -m crnn_jax.main --config=configs/synthetic.py

7,000 steps, 224,000 images, 1.2 hours on 2 x86-64 cores under other load, with 3,662 font faces
(experiments/pretrained/fonts.txt). IIIT5K test, letters and digits, ignoring case, greedy: 74.3 %
(95 % interval 72.7 to 75.8). The pretrained model `en_36` was trained further from here, on harder
styles: experiments/pretrained/README.md.
"""

import ml_collections

from configs import mjsynth


def get_config() -> ml_collections.ConfigDict:
    config = mjsynth.get_config()
    with config.unlocked():
        config.epochs = 0.0
        config.steps = 7_000
        config.batch_size = 32  # many small steps leave the CTC plateau sooner than few large ones
        config.model.name = "crnn_small"
        config.preprocessing.width = 0
        config.preprocessing.max_width = 256
        config.data.train = "synthetic"
        config.data.bucket_boundaries = (48, 64, 80, 96, 112, 128, 160, 208, 256)
        config.data.workers = 1
        config.optimizer.warmup_steps = 200
        config.optimizer.ema_decay = 0.999
        config.evaluation.every_steps = 1_000
        config.evaluation.batch_size = 64
        config.checkpoint.every_steps = 500
        config.log.every_steps = 100
    return config
