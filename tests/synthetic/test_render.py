import json

import numpy as np
import pytest

from crnn_jax.core.charset import Charset
from crnn_jax.synthetic.layout import bend_points, project
from crnn_jax.synthetic.render import draw_layers
from crnn_jax.synthetic.rng import Rng
from crnn_jax.synthetic.styles import STYLES

PRINTED = Charset.from_characters("".join(map(chr, range(33, 127))))


def test_plain_letters_lie_in_their_boxes(make_source):
    """Dark letters on light ground: each box holds ink, and there is none outside."""
    source = make_source(style="plain")
    for i in range(20):
        image = source.draw(i)[..., 0].astype(np.float32)
        height, width = image.shape
        boxes = source.layout(i).boxes
        assert len(boxes) == len(source.layout(i).drawn)
        ground = np.median(image[0])
        ink = ground - image > 20
        outside = ink.copy()
        for x0, y0, x1, y1 in boxes:
            assert 0 <= (x0 + x1) / 2 <= width
            assert 0 <= (y0 + y1) / 2 <= height
            top, bottom = max(0, int(y0) - 1), int(y1) + 2
            left, right = max(0, int(x0) - 1), int(x1) + 2
            box = ink[top:bottom, left:right]
            assert box.any(0).mean() > 0.5
            outside[top:bottom, left:right] = False
        assert not outside.any()
        centres = (boxes[:, 0] + boxes[:, 2]) / 2
        assert (np.diff(centres) > 0).all()


@pytest.mark.parametrize("bend", ["none", "arc", "wave"])
def test_boxes_follow_every_bend_and_camera(make_source, bend, tmp_path):
    """The boxes come from the forward map, the pixels from its inverse: they must agree."""
    effects = "neighbour border outline shadow bold easy bounce tight rule dots"
    still = dict.fromkeys(effects.split(), 0.0)
    shares = {**still, "curve": bend == "arc", "wave": bend == "wave", "perspective": 1, "loose": 1}
    style = tmp_path / "bent.json"
    style.write_text(json.dumps({f"{name}_share": float(p) for name, p in shares.items()}))
    source = make_source(style=str(style))
    seen = 0
    for i in range(60):
        layout = source.layout(i)
        seen += layout.bend[0] == bend
        fill = draw_layers(layout, source.atlas, Rng(0, "look", i)).fill
        assert fill.shape == (layout.height, layout.width)
        covered = np.zeros(fill.shape, bool)
        for x0, y0, x1, y1 in layout.boxes:
            left, top = max(0, int(x0) - 2), max(0, int(y0) - 2)
            covered[top : int(y1) + 3, left : int(x1) + 3] = True
            box = fill[max(0, int(y0)) : int(y1) + 1, max(0, int(x0)) : int(x1) + 1]
            assert box.max(initial=0.0) > 0.3
        assert fill[covered].sum() > 0.98 * fill.sum()
    assert seen >= 20


def test_ligatures_are_one_glyph_and_their_letters_the_label(make_source, tmp_path):
    words, style = tmp_path / "words.txt", tmp_path / "joined.json"
    words.write_text("find\nflat\naffix\n")
    none = {name: 0.0 for name in vars(STYLES["plain"]) if name.endswith("_share")}
    lower = {"case_shares": {"lower": 1}, "word_share": 1, "ligature_share": 1}
    style.write_text(json.dumps({"base": "plain", **none, **lower}))
    source = make_source(PRINTED, style=str(style), words=str(words))
    layouts = {source.text(i): source.layout(i) for i in range(40)}
    drawn = {text: layout.drawn for text, layout in layouts.items()}
    # the font inside Pillow has no ff
    assert drawn == {"find": "ﬁnd", "flat": "ﬂat", "affix": "afﬁx"}
    assert all(len(layout.boxes) == len(layout.drawn) for layout in layouts.values())


def test_a_cut_runs_through_the_last_letter(make_source, tmp_path):
    style = tmp_path / "cut.json"
    style.write_text(json.dumps({"base": "plain", "cut_share": 1, "cut": [0.4, 0.4]}))
    source = make_source(style=str(style))
    for layout in map(source.layout, range(20)):
        left, _, right, _ = layout.boxes[-1]
        assert right - layout.width == pytest.approx(0.4 * (right - left), abs=0.6)


def test_faint_marks_are_paler_than_letters(make_source, tmp_path):
    style, words = tmp_path / "faint.json", tmp_path / "words.txt"
    words.write_text("18.50\n1,75\n")
    changes = {"word_share": 1, "number_share": 0, "faint_share": 1, "faint": [0.2, 0.3]}
    others = dict.fromkeys(("common", "invented", "letters", "random", "punctuation"), 0.0)
    changes |= {f"{name}_share": p for name, p in others.items()}
    style.write_text(json.dumps({"base": "plain", **changes}))
    source = make_source(PRINTED, style=str(style), words=str(words))
    for i in range(20):
        layout = source.layout(i)
        fill = draw_layers(layout, source.atlas, Rng(0, "look", i)).fill
        for symbol, (x0, y0, x1, y1) in zip(layout.drawn, layout.boxes.astype(int), strict=True):
            ink = fill[max(0, y0) : y1 + 1, x0 : x1 + 1].max()
            assert 0.1 < ink < 0.4 if symbol in ".," else ink > 0.8


def test_no_other_line_can_be_read(make_source, tmp_path):
    """The crop of a bent or turned word is high: the lines above and below would come into it."""
    shares = dict.fromkeys(("neighbour", "curve", "strong_rotation"), 1.0)
    style = tmp_path / "turned.json"
    style.write_text(json.dumps({f"{name}_share": p for name, p in shares.items()}))
    source, lines = make_source(style=str(style)), 0
    for i in range(150):
        layout = source.layout(i)
        size, boxes = len(layout.boxes), source.atlas.metrics(layout.face)[0]
        others = layout.letters[size:]
        whole = range(0, len(others) - size + 1, size) if size > 2 else ()  # then lone letters
        for line in (others[at : at + size] for at in whole):
            middles = [
                (p.left + boxes[p.column][2] / 2, p.top + boxes[p.column][3] / 2) for p in line
            ]
            x, y = project(
                layout.forward, bend_points(np.array(middles), layout.ink, layout.bend)
            ).T
            inside = (x > 0) & (x < layout.width) & (y > 0) & (y < layout.height)
            assert inside.mean() < 0.75
            lines += 1
    assert lines > 20


@pytest.mark.parametrize("light_on_dark", [0.0, 1.0])
def test_no_word_is_invisible(make_source, tmp_path, light_on_dark):
    """Even where the style asks for no contrast at all, letters differ from their surface."""
    style = tmp_path / "pale.json"
    changes = {"base": "plain", "contrast": [0.0, 1.0], "light_on_dark_share": light_on_dark}
    style.write_text(json.dumps(changes))
    source = make_source(style=str(style))
    for i in range(20):
        image = source.draw(i)[..., 0].astype(np.float32)
        fill = draw_layers(source.layout(i), source.atlas, Rng(0, "look", i)).fill
        apart = image[fill > 0.9].mean() - image[fill < 0.1].mean()
        assert apart * (1 if light_on_dark else -1) > 12
