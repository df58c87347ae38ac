"""Writes word lists for the renderer, commonest words first, from the frequencies of `wordfreq`.

pip install wordfreq==3.1.1
python experiments/pretrained/words.py en -o words.txt
python experiments/pretrained/words.py de fr el sr -o words/    # a list each: words/de.txt ...

Lists of a folder hold only words of the language's own letters. `wordfreq` knows Serbian in Latin
letters (`sh`); `sr` is the same list in Cyrillic ones. It folds the German sharp s and the Greek
final sigma, which are put back, the first by a few stems.
"""

import argparse
import re
import unicodedata
from collections import Counter
from pathlib import Path

from wordfreq import top_n_list

OWN = 5e-4  # share of a language's words that a letter of its own stands in
LATIN = "abvgdđežzijklmnoprstćufhcčš"
CYRILLIC = dict(zip(LATIN, "абвгдђежзијклмнопрстћуфхцчш", strict=True))
PAIRS = {"lj": "љ", "nj": "њ", "dž": "џ"}
SHARP = re.compile(
    "(stra|gro|grö|wei|hei|fu|fü|gru|grü|spa|spä|sü|flie|schlie|schie|genie|drei|flei|gie|rei|bei"
    "|sto|stö|blo|lie|hie|mä|au(?=ss(?:er|en))|äu)ss"
)


def words_of(code: str, most: int) -> list[str]:
    words = top_n_list("sh" if code == "sr" else code, most, "best")
    # numbers are drawn by the styles themselves
    words = [w for w in words if not any(c.isdigit() for c in w)]
    respell = {"sr": cyrillic, "de": sharp_s, "el": final_sigma}.get(code)
    return [unicodedata.normalize("NFC", respell(w)) for w in words] if respell else words


def cyrillic(word: str) -> str:
    for pair, letter in PAIRS.items():
        word = word.replace(pair, letter)
    return "".join(CYRILLIC.get(c, c) for c in word)


def sharp_s(word: str) -> str:
    return SHARP.sub(r"\1ß", word)


def final_sigma(word: str) -> str:
    return word[:-1] + "ς" if word.endswith("σ") else word


def own_words(words: list[str]) -> list[str]:
    """Those without letters of other languages, emoji and signs."""
    counts = Counter(c for word in words for c in set(word))
    own = {c for c, n in counts.items() if n >= OWN * len(words) and (c.isalpha() or c in "'-’")}
    return [word for word in words if own.issuperset(word)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("languages", nargs="+")
    parser.add_argument("-o", "--output", required=True, help="file, or folder with a / at its end")
    parser.add_argument("--most", type=int, default=400_000, help="words of each language")
    args = parser.parse_args()
    lists = {code: words_of(code, args.most) for code in args.languages}
    if args.output.endswith("/"):
        Path(args.output).mkdir(parents=True, exist_ok=True)
        files = {Path(args.output, f"{code}.txt"): own_words(w) for code, w in lists.items()}
    else:
        files = {Path(args.output): list(dict.fromkeys(w for ws in lists.values() for w in ws))}
    for file, words in files.items():
        file.write_text("".join(f"{w}\n" for w in words), encoding="utf-8")
        print(f"{file}: {len(words):,} words")


if __name__ == "__main__":
    main()
