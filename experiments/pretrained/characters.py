"""Writes the table of characters of a model that reads lines, from the folder of word lists.

    python experiments/pretrained/words.py bg ca cs ... -o words/
    python experiments/pretrained/characters.py words/

The letters of all lists in both cases (words.py leaves out those that are rare in a language), and
digits, punctuation, currency and signs as listed here. Left out are signs that look like others
of the table, such as the minus, the micro sign and the ordinals.
"""

import argparse
import string
from pathlib import Path

from crnn_jax.core.charset import Charset

TABLE = Path(__file__).with_name("characters.txt")
LETTERS = "ßẞςΐΰϋΫѝЍÿŸİ"  # that lists in lower case do not show, or one language alone
QUOTES = "“”„‚‘’«»‹›"
PUNCTUATION = "–—…·•¿¡§¶†‡°№‰©®™×÷±≤≥½¼¾²³→■□●"
CURRENCY = "€£¥¢₽₴₺₫₹₱"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=TABLE)
    args = parser.parse_args()
    found = set(LETTERS)
    for file in sorted(args.folder.glob("*.txt")):
        found |= set(file.read_text(encoding="utf-8")) - {"\n"}
    found |= {c.upper() for c in found if len(c.upper()) == 1}
    plain = string.digits + string.ascii_letters + string.punctuation + " "
    signs = QUOTES + PUNCTUATION + CURRENCY
    letters = "".join(sorted(found - set(plain + signs)))
    table = Charset.from_characters(plain + signs + letters)
    table.write(args.output)
    print(f"{args.output}: {table.num_classes} classes")


if __name__ == "__main__":
    main()
