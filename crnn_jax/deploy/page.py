"""The page of `crnn_jax.app`: a picture of a word in, text, alternatives and alignment out.

    page(Recognizer.load(), examples=['word.png']).launch()

Everything the page shows comes from this machine; it works where there is no internet.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crnn_jax.deploy.reading import Reading
from crnn_jax.deploy.recognizer import Recognizer
from crnn_jax.spec.errors import UserError

MOST_WORDS = 100_000  # of a lexicon typed into the page
TALL, MOST_WIDE = 120, 1600  # pixels, of the picture with its alignment
SURE = ((0.95, (0, 125, 75)), (0.8, (200, 140, 0)), (0.0, (200, 30, 60)))  # by confidence


def page(recognizer: Recognizer, examples: Sequence[str] = ()) -> Any:
    """Builds the page.

    Args:
        recognizer: reads the pictures.
        examples: paths of pictures to offer.

    Returns:
        A `gradio.Blocks`.

    Raises:
        UserError: gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError(f"the page needs gradio: pip install 'crnn_jax[app]' ({error})") from None

    def read(picture: Image.Image | None, decoder: str, width: float, words: str) -> tuple:
        try:
            return answer(recognizer, picture, decoder, int(width), words)
        except UserError as error:
            raise gr.Error(str(error), duration=8) from None

    with gr.Blocks(title="crnn_jax", analytics_enabled=False) as blocks:
        gr.Markdown("## Read a word\nDrop, paste or photograph one word or one line of text.")
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    type="pil",
                    label="Picture",
                    sources=["upload", "clipboard", "webcam"],
                    height=240,
                    elem_id="picture",
                )
                decoder = gr.Radio(
                    ["greedy", "beam"], value="greedy", label="Decoder", elem_id="decoder"
                )
                width = gr.Slider(2, 100, value=10, step=1, label="Beam width")
                words = gr.Textbox(
                    label="Lexicon", placeholder="words, one a line; empty: any text", lines=3
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
        given, shown = [picture, decoder, width, words], [text, sure, drawn, each, others]
        if examples:
            gr.Examples([[path] for path in examples], [picture], label="Examples")
        control: Any
        for control in given:
            control.change(read, given, shown, show_progress="hidden")
    return blocks


def answer(
    recognizer: Recognizer, picture: Image.Image | None, decoder: str, width: int, words: str
) -> tuple[str, str, np.ndarray | None, list[list[str]], list[list[str]]]:
    """What the page shows for one picture.

    Args:
        picture: None where there is none yet.
        decoder: 'greedy' or 'beam'.
        width: of the beam.
        words: of the lexicon, one a line; '' for none.

    Returns:
        (text, confidence, uint8 [h w 3] of the alignment, rows of characters, of alternatives).

    Raises:
        UserError: the picture cannot be read, the lexicon has too many words.
    """
    if picture is None:
        return "", "", None, [], []
    lexicon = list(dict.fromkeys(words.split()))
    if len(lexicon) > MOST_WORDS:
        raise UserError(f"a lexicon of {len(lexicon):,} words; at most {MOST_WORDS:,} here")
    options: dict[str, Any] = {"lexicon": lexicon} if lexicon else {}
    if decoder == "beam":
        options |= {"beam_width": width, "top_paths": min(5, width)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (reading,) = recognizer.read([picture], decoder, **options)
    told = "".join(f" ({warning.message})" for warning in said)
    characters = [[c.text, f"{c.confidence:.3f}"] for c in reading.characters or ()]
    others = [[text, f"{np.exp(log_prob):.4f}"] for text, log_prob in reading.alternatives]
    return (
        reading.text,
        f"{reading.confidence:.4f}{told}",
        drawn(picture, reading),
        characters,
        others,
    )


def drawn(picture: Image.Image, reading: Reading) -> np.ndarray:
    """The picture with each character's span and the character below it: uint8 [h w 3]."""
    scale = min(TALL / picture.height, MOST_WIDE / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    sheet = Image.new("RGB", (size[0], size[1] + 34), "white")
    sheet.paste(picture.convert("RGB").resize(size), (0, 0))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    for character in reading.characters or ():
        colour = next(c for least, c in SURE if character.confidence >= least)
        left, right = character.x0 * scale, max(character.x1 * scale, character.x0 * scale + 1)
        pen.rectangle((left, 0, right, size[1] - 1), outline=colour, width=2)
        pen.text(((left + right) / 2, size[1] + 4), character.text, colour, font, anchor="ma")
    return np.asarray(sheet)
