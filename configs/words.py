"""Your own images, starting from a pretrained model.

    python -m crnn_jax.main --config=configs/words.py --config.data.train=labels.txt

Only `data.train` is needed: an annotation file, several ('a.txt,b.txt*2'), or a folder whose file
names are the labels. Training starts from `en_36` if the labels use only 0-9a-z, and from `lines`
if they have capitals, spaces, punctuation or accents. The characters are those of the labels;
`charset.keep` adds those of the start model, and `charset.table` names all of them. Bucket widths,
max_width and the longest label follow from the images. A tenth of the images, chosen by a hash of
their paths, is held out for validation, which runs twenty times or, in long runs, every 500 steps.
Training stops if half of its steps bring no improvement. It can be stopped earlier: the workdir has
the best model so far, which is the start model until one is better. If the model should also keep
reading other words, use `--config.data.synthetic_ratio=0.5`: it adds half as many rendered words as
there are images.

captcha_v2 has 1,040 images of five characters. Every fifth of the sorted list was held out in turn
and read once: 1,029 of 1,040 exact, 98.9 % (95 % interval 98.1 to 99.4); 576 to 816 steps and 1.8
to 2.2 minutes per fold, compilation included, in bfloat16 on 2 x86-64 cores with AVX512_BF16.
Trained on 200 images drawn at random, it read 821 of the other 840, 97.7 % (96.5 to 98.5), after
420 steps and 1.3 minutes. Learning rate and length had been set earlier, after trials on the first
fold and on the 840 of another draw.
"""

import ml_collections

from configs import mjsynth


def get_config() -> ml_collections.ConfigDict:
    config = mjsynth.get_config()
    with config.unlocked():
        config.epochs = 40.0
        config.min_steps = 600  # for a few hundred images 40 epochs are not enough
        config.batch_size = 32
        config.init_from = "auto"
        config.charset.table = ""
        config.charset.ignore_case = False
        config.model.name = ""  # that of init_from
        config.model.dtype = "auto"
        config.model.bn_momentum = 0.95
        config.preprocessing.width = -1  # that of init_from
        config.preprocessing.max_width = 0
        config.data.train = "labels.txt"
        config.data.split = "hash"
        config.data.max_label_length = 0
        config.data.augment = "light"
        config.optimizer.learning_rate = 1e-3
        config.optimizer.warmup_steps = 50
        config.optimizer.ema_decay = 0.99
        config.evaluation.every_steps = 0
        config.evaluation.patience = 10
        config.evaluation.batch_size = 64
        config.checkpoint.every_steps = 200
        config.log.every_steps = 20
    return config
