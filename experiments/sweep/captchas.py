"""Rendered captchas from scratch: which settings learn to read them from 6,400 pictures?

    python -m crnn_jax.sweep --config=experiments/sweep/captchas.py

or searched for, stopping early what lags behind:

    python -m crnn_jax.sweep --config=experiments/sweep/captchas.py --trials=20 \
        --sweep-dir=sweeps/search --config.evaluation.every_steps=50

Every point sees the same pictures, none of them twice, and is validated on 1,000 others.
"""

import ml_collections

from configs import captcha


def get_config() -> ml_collections.ConfigDict:
    config = captcha.get_config()
    with config.unlocked():
        config.epochs = 1.0
        config.charset.characters = "0123456789"
        config.preprocessing.width = 64
        config.data.train = "synthetic"
        config.data.validation = "synthetic*0.15625"  # 1,000
        config.data.split = "none"
        config.synthetic.style = "experiments/sweep/captcha.json"
        config.synthetic.fonts = "builtin"
        config.synthetic.count = 6_400
        config.optimizer.warmup_steps = 20
        config.log.every_steps = 20
        config.log.tensorboard = False
    return config


def sweep(add):
    for rate in (1e-3, 3e-3):
        for ema in (0.0, 0.97):
            for batch in (16, 64):
                add(
                    {
                        "optimizer.learning_rate": rate,
                        "optimizer.ema_decay": ema,
                        "batch_size": batch,
                    }
                )


def suggest(trial):
    return {
        "optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True),
        "optimizer.ema_decay": trial.suggest_categorical("ema", [0.0, 0.9, 0.97, 0.99]),
        "model.bn_momentum": trial.suggest_categorical("bn_momentum", [0.9, 0.95, 0.99]),
    }
