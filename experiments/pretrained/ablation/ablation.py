"""What each group of the renderer's effects is good for: the same short training without it.

    python -m crnn_jax.sweep --config=experiments/pretrained/ablation/ablation.py \
        --config.data.validation=icdar2015_train/labels.tsv,iiit5k_train/labels.tsv,svt_train/labels.tsv

Each point goes on from the first training's weights with 20,000 pictures of one style.
"""

import ml_collections

from configs import synthetic

HERE = "experiments/pretrained"


def get_config() -> ml_collections.ConfigDict:
    config = synthetic.get_config()
    with config.unlocked():
        config.init_from = "runs/en_36"
        config.seed = 2
        config.steps = 320
        config.batch_size = 64
        config.optimizer.learning_rate = 3e-4
        config.optimizer.warmup_steps = 20
        config.optimizer.ema_decay = 0.99
        config.evaluation.every_steps = 320
        config.checkpoint.every_steps = 320
        config.log.every_steps = 40
    return config


def sweep(add):
    add({"synthetic.style": f"{HERE}/second.json"})
    add({"synthetic.style": f"{HERE}/third.json"})
    add({"synthetic.style": f"{HERE}/fourth.json"})
    add({"synthetic.style": "scene"})
    for without in ("straight", "centred", "sharp", "flat"):
        add({"synthetic.style": f"{HERE}/ablation/{without}.json"})
    add({"synthetic.style": "plain"})
