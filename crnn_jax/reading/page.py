"""The page of `crnn_jax.app`: an image of a word in, text, alternatives and alignment out.

    page(Recognizer.load(), examples=['word.png']).launch()

It works where there is no internet. Whoever opens it may send anything: files are kept for an
hour, in gradio's one folder (GRADIO_TEMP_DIR).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crnn_jax.core.errors import UserError
from crnn_jax.core.images import ImageSource, UnreadableImage, decode_image
from crnn_jax.reading.pictures import PhotoWarning
from crnn_jax.reading.recognizer import Reading, Recognizer

MOST_WORDS = 100_000  # of a lexicon typed into the page
LONGEST_WORD = 100  # letters
BEAM = (2, 100)  # widths to choose from
MOST_WAITING = 64  # questions that wait for their turn; further ones are told to come later
KEPT_SECONDS = 3600  # that files stay on the disk
TALL, MOST_WIDE = 120, 1600  # pixels, of the image with its alignment
SURE = ((0.95, (0, 125, 75)), (0.8, (200, 140, 0)), (0.0, (200, 30, 60)))  # by confidence


def page(recognizer: Recognizer, examples: Sequence[str] = ()) -> Any:
    """Builds the page, a `gradio.Blocks`; raises UserError where gradio is not installed."""
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError(f"the page needs gradio: pip install '.[app]' ({error})") from None

    def read(path: str | None, decoder: str, width: float, words: str) -> tuple:
        try:
            return answer(recognizer, path, decoder, width, words)
        except UserError as error:
            raise gr.Error(str(error), duration=8, print_exception=False) from None

    kept = (KEPT_SECONDS, KEPT_SECONDS)
    with gr.Blocks(title="crnn_jax", analytics_enabled=False, delete_cache=kept) as blocks:
        gr.Markdown("## Read a word\nDrop, paste or photograph one word or one line of text.")
        with gr.Row():
            with gr.Column():
                image: Any = gr.Image(
                    label="Image",
                    sources=["upload", "clipboard", "webcam"],
                    height=240,
                    elem_id="picture",
                )
                # gradio's own decodes whatever it is given, however large.
                image.preprocess = lambda sent: sent and _sent(sent, image.GRADIO_CACHE)
                decoder = gr.Radio(
                    ["greedy", "beam"], value="greedy", label="Decoder", elem_id="decoder"
                )
                width = gr.Slider(*BEAM, value=10, step=1, label="Beam width")
                words = gr.Textbox(
                    label="Lexicon (beam)",
                    placeholder="words, one a line; empty: any text",
                    lines=3,
                )
            with gr.Column():
                text = gr.Textbox(label="Text", elem_id="text", interactive=False)
                sure = gr.Textbox(label="Confidence", elem_id="confidence", interactive=False)
                drawn = gr.Image(label="Alignment", elem_id="alignment", interactive=False)
                each = gr.Dataframe(
                    headers=["character", "confidence"], label="Characters", elem_id="characters"
                )
                others = gr.Dataframe(
                    headers=["text", "probability"], label="Alternatives", elem_id="alternatives"
                )
        given, shown = [image, decoder, width, words], [text, sure, drawn, each, others]
        if examples:
            gr.Examples([[path] for path in examples], [image], label="Examples")
        control: Any
        for control in given:
            control.change(read, given, shown, show_progress="hidden")
    return blocks.queue(max_size=MOST_WAITING)


def answer(
    recognizer: Recognizer, image: ImageSource | None, decoder: str, width: float, words: str
) -> tuple[str, str, np.ndarray | None, list[list[str]], list[list[str]]]:
    """Text, confidence, alignment uint8 [h w 3], rows of characters, rows of alternatives.

    Raises UserError where the image cannot be read, or something else is beyond its bound.
    """
    if image is None:
        return "", "", None, [], []
    try:
        pixels = decode_image(image, 3)
    except UnreadableImage as error:
        raise UserError(f"this image cannot be read: {error.reason}") from None
    entries = (line.strip() for line in (words or "").splitlines())
    lexicon = list(dict.fromkeys(entry for entry in entries if entry))
    if len(lexicon) > MOST_WORDS:
        raise UserError(f"a lexicon of {len(lexicon):,} words; at most {MOST_WORDS:,} here")
    if (longest := max(map(len, lexicon), default=0)) > LONGEST_WORD:
        raise UserError(f"a word of {longest:,} letters; at most {LONGEST_WORD} here")
    options: dict[str, Any] = {"lexicon": lexicon} if lexicon else {}
    if lexicon and decoder != "beam":
        raise UserError("a lexicon goes with the decoder beam")
    if decoder == "beam":
        if not BEAM[0] <= width <= BEAM[1]:
            raise UserError(f"a beam of {width}; from {BEAM[0]} to {BEAM[1]} here")
        options |= {"beam_width": int(width), "top_paths": min(5, int(width))}
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", category=PhotoWarning)
        (reading,) = recognizer.read([pixels], decoder, **options)
    told = "".join(f" ({w.message})" for w in said if issubclass(w.category, PhotoWarning))
    characters = [[c.text, f"{c.confidence:.3f}"] for c in reading.characters]
    others = [[text, f"{np.exp(log_prob):.4f}"] for text, log_prob in reading.alternatives]
    return (
        reading.text,
        f"{reading.confidence:.4f}{told}",
        drawn(Image.fromarray(pixels), reading),
        characters,
        others,
    )


def _sent(sent: Any, folder: str) -> str:
    """Path of what was sent; '' outside of gradio's folder: it lets in any path without `meta`."""
    path = Path(sent.path or "").resolve()
    return str(path) if path.is_relative_to(Path(folder).resolve()) else ""


def drawn(image: Image.Image, reading: Reading) -> np.ndarray:
    """The image with each character's span and the character below it: uint8 [h w 3]."""
    scale = min(TALL / image.height, MOST_WIDE / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    sheet = Image.new("RGB", (size[0], size[1] + 34), "white")
    sheet.paste(image.convert("RGB").resize(size), (0, 0))
    pen, font = ImageDraw.Draw(sheet), _font(22)
    for character in reading.characters:
        colour = next(c for least, c in SURE if character.confidence >= least)
        left, right = character.x0 * scale, max(character.x1 * scale, character.x0 * scale + 1)
        pen.rectangle((left, 0, right, size[1] - 1), outline=colour, width=2)
        pen.text(((left + right) / 2, size[1] + 4), character.text, colour, font, anchor="ma")
    return np.asarray(sheet)


def _font(pixels: int) -> Any:
    """The system's DejaVu, which draws most alphabets; else Pillow's own, which draws ASCII."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", pixels)
    except OSError:
        return ImageFont.load_default(pixels)
