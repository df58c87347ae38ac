"""Rendered words and lines of 33 languages, with spaces, case, punctuation and currency signs.

    PYTHONPATH=. python experiments/pretrained/words.py --most 40000 -o words/ bg ca cs ...
    python -m crnn_jax.main --config=configs/lines.py

LANGUAGES lists the languages; their word lists come from `wordfreq`, the character table from
experiments/pretrained/characters.py. Fonts with Latin, Greek and Cyrillic letters are needed
(experiments/pretrained/fonts.txt). The pretrained model `lines` was trained first from `en_36`,
then from the result, with these values but for the styles of receipts, which have changed since;
experiments/pretrained/README.md has its results.
"""

import ml_collections

from configs import synthetic

LINES = "experiments/pretrained/lines"
# the codes choose quotes, currency and decimals; *16: sixteen times as often
LANGUAGES = (
    "en*16 de*2 es*2 fr*4 it*2 pt*2 nl pl ca cs da fi fil hu id is lt lv ms nb ro sh sk sl sv tr "
    "vi*2 el*2 bg mk ru*2 sr uk"
)
STYLES = "words*0.35 print*0.09 receipt*0.20 italic*0.03 typewriter*0.08 scan*0.17 photo*0.08"


def get_config() -> ml_collections.ConfigDict:
    config = synthetic.get_config()
    with config.unlocked():
        config.init_from = "lines"
        config.steps = 3_700
        config.batch_size = 32
        config.optimizer.name = "muon"
        config.optimizer.learning_rate = 8e-4
        config.optimizer.warmup_steps = 100
        config.optimizer.ema_decay = 0.998
        config.model.name = "crnn_residual"
        config.model.dtype = "auto"
        config.charset.table = "experiments/pretrained/characters.txt"
        config.charset.ignore_case = False
        config.preprocessing.min_width = 64
        config.preprocessing.max_width = 1024
        # the widest image sets the cost of a step, so words and lines have separate shapes
        config.data.bucket_boundaries = (64, 96, 128, 176, 240, 320, 416, 528, 656, 800, 1024)
        config.data.max_label_length = 120
        config.synthetic.words = ",".join(
            f"words/{code}.txt*{weight or 1}"
            for code, _, weight in (name.partition("*") for name in LANGUAGES.split())
        )
        config.synthetic.style = ",".join(
            f"{LINES}/{name}.json*{share}"
            for name, _, share in (style.partition("*") for style in STYLES.split())
        )
        config.synthetic.max_aspect = 40.0
    return config
