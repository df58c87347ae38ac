"""The report in Debian's Chromium: what people see, at two widths, light and dark."""

import os

import pytest

CHROMIUM = "/usr/bin/chromium"
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"no {CHROMIUM}")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # As root, as in a container, its sandbox does not start; the pages are our own.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    contexts = []

    def opened(file, width=1280, scheme="light"):
        """The page; it fails on anything the browser complains of or would load."""
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:")) or page.complaints.append(r.url),
        )
        page.goto(f"file://{file}")
        return page

    yield opened
    for context in contexts:
        context.close()


def seen(page):
    return page.locator(".card:visible").count()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("size", ["small", "large"])
def test_nothing_sticks_out(opened, request, size, width):
    page = opened(request.getfixturevalue(size)[0], width)
    page.add_style_tag(content=".card { content-visibility: visible !important }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Nor out of its card or figure, but where it can be scrolled.
    outside = page.evaluate(
        """[...document.querySelectorAll('.card *, figure > *, .tile *')].filter((e) => {
            const box = e.closest('.card, figure, .tile').getBoundingClientRect();
            const own = e.getBoundingClientRect();
            return own.width && !e.closest('.scroll, .path')
                && (own.left < box.left - 1 || own.right > box.right + 1);
        }).map((e) => `${e.tagName}.${e.getAttribute('class')} ${e.textContent.slice(0, 9)}`)"""
    )
    assert outside == []
    assert page.complaints == []


def test_no_label_is_run(opened, small):
    page = opened(small[0])
    assert page.title() == "Evaluation report"
    page.locator("#find").fill("<script>")
    assert seen(page) == 1
    assert "<script>document.title" in page.locator(".card:visible .label").text_content()


def test_filters(opened, small):
    page = opened(small[0])
    all_cards = page.locator(".card").count()
    assert seen(page) == all_cards
    kinds = page.locator("#kind option").evaluate_all("all => all.map(o => o.value)")[1:]
    by_kind = {}
    for kind in kinds:
        page.locator("#kind").select_option(kind)
        shown = page.locator(".card:visible .kind").all_text_contents()
        assert set(shown) <= {kind}
        by_kind[kind] = len(shown)
        assert page.locator("output").inner_text() == f"{len(shown)} of {len(shown)} shown"
    assert sum(by_kind.values()) == all_cards
    assert min(by_kind.values()) > 0
    page.locator("#kind").select_option("")
    by_set = []
    for number in ("0", "1"):
        page.locator("#set").select_option(number)
        by_set.append(seen(page))
    assert sum(by_set) == all_cards
    page.locator("#set").select_option("")
    page.locator("#find").fill("no such text")
    assert seen(page) == 0


def test_orders(opened, large):
    page = opened(large[0])

    def values(name):
        found = page.locator(".card").evaluate_all(f"all => all.map(c => Number(c.dataset.{name}))")
        return found, sorted(found, reverse=True)

    first = page.locator(".card").first.text_content()
    assert values("sure")[0] == values("sure")[1]
    page.get_by_role("button", name="Worst").click()
    assert values("worst")[0] == values("worst")[1]
    page.get_by_role("button", name="Most confident").click()
    assert values("sure")[0] == values("sure")[1]
    assert page.locator(".card").first.text_content() == first


def test_a_character_and_its_place_light_up_together(opened, small):
    page = opened(small[0])
    card = page.locator(".card:has(.chip)").first
    card.locator(".chip").first.hover()
    assert card.locator("g.lit").get_attribute("data-i") == "0"
    page.locator("h1").hover()
    assert card.locator(".lit").count() == 0


def test_pictures_are_drawn(opened, small):
    page = opened(small[0])
    card = page.locator(".card:has(image)").first
    card.scroll_into_view_if_needed()
    plain = card.locator(".picture").screenshot()
    page.add_style_tag(content="image { visibility: hidden }")
    assert card.locator(".picture").screenshot() != plain


def test_light_and_dark(opened, small, tmp_path):
    from PIL import Image

    levels = {}
    for scheme in ("light", "dark"):
        page = opened(small[0], scheme=scheme)
        page.screenshot(path=tmp_path / f"{scheme}.png")
        picture = Image.open(tmp_path / f"{scheme}.png").convert("L")
        levels[scheme] = picture.getpixel((5, 5))
        # Ink on paper: something is drawn, and it is not the paper's colour.
        assert len(picture.getcolors()) > 50
        style = "getComputedStyle(document.body)"
        assert page.evaluate(f"{style}.color") != page.evaluate(f"{style}.backgroundColor")
    assert levels["light"] > 200
    assert levels["dark"] < 60
