"""Writes a word list for the renderer, commonest words first, from the frequencies of `wordfreq`.

pip install wordfreq==3.1.1
python experiments/pretrained/words.py en -o words.txt
"""

import argparse
from pathlib import Path

from wordfreq import top_n_list


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("languages", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--most", type=int, default=400_000, help="words of each language")
    args = parser.parse_args()
    words = [word for code in args.languages for word in top_n_list(code, args.most, "best")]
    # numbers are drawn by the styles themselves
    words = [w for w in dict.fromkeys(words) if not any(c.isdigit() for c in w)]
    args.output.write_text("".join(f"{w}\n" for w in words), encoding="utf-8")
    print(f"{args.output}: {len(words):,} words")


if __name__ == "__main__":
    main()
