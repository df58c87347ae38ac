"""Do the characters' x-spans cover their glyphs? On rendered words, whose boxes are known.

    python experiments/decoding/spans.py [-m MODEL] [--count 2000] [--fonts DIR]

Of the words that were read right, and whose letters are all in the label: the share of characters
whose span [x0, x1) holds the middle of their glyph's box.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from crnn_jax import cpu_settings

SEED = 271_828  # no training run's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", help="default: the one that ships")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--fonts", help="folder of fonts, as synthetic.fonts in training")
    parser.add_argument("--decoder", default="greedy")
    args = parser.parse_args()
    cpu_settings.apply()
    from configs import synthetic
    from crnn_jax.reading.recognizer import Recognizer
    from crnn_jax.synthetic.source import SyntheticSource

    recognizer = Recognizer.load(args.model)
    config = synthetic.get_config().synthetic
    if args.fonts:
        config.fonts = args.fonts
    source = SyntheticSource(config, recognizer.charset, seed=SEED)
    words = covered = characters = 0
    for start in range(0, args.count, 256):
        ids = range(start, min(start + 256, args.count))
        readings = recognizer.read(source.read(ids), args.decoder)
        for i, reading in zip(ids, readings, strict=True):
            boxes = source.layout(i).boxes
            if reading.text != source.text(i) or len(boxes) != len(reading.text):
                continue
            words += 1
            for character, (x0, _, x1, _) in zip(reading.characters, boxes, strict=True):
                characters += 1
                covered += character.x0 <= (x0 + x1) / 2 < character.x1
    share = 100 * covered / max(characters, 1)
    print(f"{words} of {args.count} words, {characters} characters: {share:.2f} % covered")


if __name__ == "__main__":
    main()
