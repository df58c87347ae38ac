"""Files of characters, words, n-grams and styles, given to `demo` and `synthesize`."""

import os
from collections.abc import Iterator
from pathlib import Path

from experiments.faults.cases.case import HOLE, Case, image, write


def cases(folder: Path) -> Iterator[Case]:
    word = image(folder / "word.png")
    million = "x" * 10**6
    (folder / "holes").touch()
    os.truncate(folder / "holes", HOLE)

    def words(name: str, path: str, says: str, code: int = 2) -> Case:
        return Case(name, ("demo", word, "--decoder", "beam", "--lexicon", path), says, code)

    def grams(name: str, path: str, says: str, code: int = 2) -> Case:
        return Case(name, ("demo", word, "--decoder", "beam", "--lm", path), says, code)

    def render(name: str, option: str, path: str, says: str) -> Case:
        return Case(name, ("synthesize", "-o", "new", "--count", "3", option, path), says)

    def table(name: str, path: str, says: str) -> Case:
        return Case(name, ("synthesize", "-o", "new", "--count", "3", "-t", path), says)

    yield table("table: a character twice", write(folder / "twice", "a\nb\na\n"), "twice")
    yield table("table: not UTF-8", write(folder / "latin", b"a\n\xe9\n"), "latin:2: not UTF-8")
    yield table("table: a line of a million characters", write(folder / "m", million), "m:1: ")
    yield table("table: /dev/zero", "/dev/zero", "a line of over 256 bytes")
    yield table("table: 3 GB of zeros", "holes", "holes:1: ")
    marks = write(folder / "marks", "a\ne" + "\u0301" * 10**6 + "\n")
    yield table("table: a million combining marks", marks, "marks:2: ")

    yield words("lexicon: a word of a million letters", write(folder / "w", million), "w:1: ")
    yield words("lexicon: not UTF-8", write(folder / "l", b"ab\n\xff\n"), "l:2: not UTF-8")
    yield words("lexicon: no word within the table", write(folder / "g", "\u03b1\n\u03b2\n"), "g: ")
    yield words("lexicon: a folder", ".", "cannot be read|directory")
    yield words("lexicon: 3 GB of zeros", "holes", "holes:1: ")

    head = "\\data\\\nngram 1={}\n\n\\1-grams:\n"
    yield grams(
        "ARPA: of words", write(folder / "words.arpa", head.format(1) + "-1\thello\n"), "words"
    )
    many = write(folder / "many.arpa", head.format(10**12) + "-1\ta\n\\end\\\n")
    # Those that are there are read: nothing depends on the head.
    yield grams("ARPA: a head that counts 10^12 n-grams", many, "Path: word.png", 0)
    yield grams("ARPA: a line of a million characters", write(folder / "m.arpa", million), "m.arpa")
    yield grams("ARPA: /dev/zero", "/dev/zero", "a line of over")
    nan = write(folder / "nan.arpa", head.format(1) + "nan\ta\n\\end\\\n")
    yield grams("ARPA: a probability that is NaN", nan, r"nan\.arpa:")

    yield render("word list: a line of a million letters", "--words", "w", "w:1: ")
    yield render("word list: not UTF-8", "--words", "l", "l:2: not UTF-8")
    yield render("word list: empty", "--words", write(folder / "none", ""), "no words")
    (folder / "fonts").mkdir()
    write(folder / "fonts" / "broken.ttf", bytes(5000))
    os.mkfifo(folder / "fonts" / "pipe.ttf")
    (folder / "fonts" / "loop.ttf").symlink_to("loop.ttf")
    (folder / "fonts" / "round").symlink_to(".")
    yield render("fonts: zeros, a pipe, a link to itself, a loop", "--fonts", "fonts", "fonts")
    for name, content, says in (
        ("a key that there is not", '{"curves": 1}', "unknown style key 'curves'"),
        ("text for a number", '{"noise_share": "1"}', "noise_share should look like"),
        ("nested 100,000 deep", "[" * 100_000, "style"),
        ("NaN", '{"noise_share": NaN}', "style"),
    ):
        path = write(folder / "style.json", content)
        yield render(f"style: {name}", "--style", path, says)
