"""Renders words as a labelled data set, or as a contact sheet that shows a style.

    python -m crnn_jax.synthesize -o words --count 10000
    python -m crnn_jax.synthesize --sheet sheet.png --style plain --color rgb

The folder is laid out like MJSynth: 1/1/2_Harbour_117.jpg, annotation.txt, labels.tsv, lexicon.txt.
The same seed, fonts and words give the same images with any number of workers.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_jax import cli
from crnn_jax.core.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from crnn_jax.synthetic.source import SyntheticSource

SHEET = 200  # images on a contact sheet
WIDE, ROW, CAPTION, GAP = 1200, 40, 14, 4  # pixels: the sheet, an image and its label, between them
CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses flags and renders."""
    parser = cli.Parser("synthesize", __doc__)
    parser.add_argument("-o", "--output", metavar="DIR", help="new folder for the images")
    parser.add_argument("--count", type=cli.number(1), default=1000, help="number of images (1000)")
    parser.add_argument("--sheet", metavar="PNG", help=f"contact sheet of the first {SHEET} images")
    about = "plain, scene, or a JSON file of changes; a mixture: a.json*0.6,b.json*0.4"
    parser.add_argument("--style", default="scene", help=about)
    parser.add_argument("--fonts", default="auto", help="folders or files; auto: the system's")
    words_help = "word lists, one per language: de.txt,fr.txt; auto: the system's"
    parser.add_argument("--words", default="auto", help=words_help)
    parser.add_argument("-t", "--table", help="character table; default: 0-9, a-z, A-Z")
    parser.add_argument("--color", default="grey", help="grey or rgb")
    parser.add_argument("--heights", default="31", help="pixels, H or LOW-HIGH (31, as MJSynth)")
    aspect_help = "width / height; wider words are squeezed (16)"
    parser.add_argument("--max-aspect", type=float, default=16.0, help=aspect_help)
    parser.add_argument("--seed", type=int, default=0, help="seed of words and images (0)")
    parser.add_argument("--workers", type=int, default=1, help="number of processes (1)")
    args = parser.parse_args(argv)
    if not args.output and not args.sheet:
        parser.error("nothing to make: -o DIR, --sheet PNG, or both")

    from crnn_jax.core.charset import Charset
    from crnn_jax.data.source import progress_bar
    from crnn_jax.synthetic.output import save_image, write_folder
    from crnn_jax.synthetic.source import SyntheticSource

    low, _, high = args.heights.partition("-")
    high = high or low
    if not (low.isdigit() and high.isdigit() and 8 <= int(low) <= int(high)):
        raise UserError(f"--heights {args.heights}: want H or LOW-HIGH in pixels, from 8 up")
    table = Charset.read(args.table) if args.table else Charset.from_characters(CHARACTERS)
    # The flags have the names of the config's keys.
    args.heights, args.cache = (int(low), int(high)), "auto"
    source = SyntheticSource(args, table, args.seed)
    if args.sheet:
        save_image(Path(args.sheet), contact_sheet(source, range(min(args.count, SHEET))))
        print(args.sheet)
    if args.output:
        with progress_bar("images", args.count) as bar:
            for done in write_folder(source, Path(args.output), args.count, args.workers):
                bar.update(done - bar.n)
        print(f"{args.output}: {args.count:,} images")
    return 0


def contact_sheet(source: "SyntheticSource", ids: Iterable[int]) -> "Image.Image":
    """The images of these samples side by side, each above its label: to look at a style."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(11)
    placed = []
    x = y = 0
    for i in ids:
        image = Image.fromarray(source.draw(i).squeeze()).convert("RGB")
        width = max(8, min(WIDE, round(image.width * ROW / image.height)))
        text = source.text(i)
        taken = max(width, int(font.getlength(text)) + 1)
        if x and x + taken > WIDE:
            x, y = 0, y + ROW + CAPTION + GAP
        placed.append((image.resize((width, ROW)), text, x, y))
        x += taken + GAP
    sheet = Image.new("RGB", (WIDE, y + ROW + CAPTION), "white")
    draw = ImageDraw.Draw(sheet)
    for image, text, left, top in placed:
        sheet.paste(image, (left, top))
        draw.text((left, top + ROW), text, "black", font)
    return sheet


if __name__ == "__main__":
    cli.run(main)
