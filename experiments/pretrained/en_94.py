"""All 94 printable ASCII characters: case and punctuation, from the model that ignores both.

    python -m crnn_jax.main --config=experiments/pretrained/en_94.py --workdir=runs/en_94 \
        --config.data.validation=icdar2015_train/labels.tsv,iiit5k_train/labels_cased_punct.tsv

The step between `en_36` and `lines`. Capitals begin as the small letters of `en_36`.
"""

import ml_collections

from configs import synthetic

ASCII = "".join(map(chr, range(33, 127)))


def get_config() -> ml_collections.ConfigDict:
    config = synthetic.get_config()
    with config.unlocked():
        config.init_from = "en_36"
        config.seed = 3
        config.steps = 4_500
        config.batch_size = 64
        config.charset.table = ""
        config.charset.characters = ASCII
        config.charset.ignore_case = False
        config.synthetic.style = "experiments/pretrained/en_94.json"
        config.optimizer.learning_rate = 7e-4
        config.checkpoint.every_steps = 250
    return config
