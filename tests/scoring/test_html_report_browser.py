"""The report in Debian's Chromium: what people see, at two widths, light and dark."""

import io

import pytest
from PIL import Image

from tests.scoring.test_html_report import small  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(browser, request):
    def opened(report, width=1280, scheme="light"):
        """The page; it fails on anything the browser complains of or would load."""
        viewport = {"width": width, "height": 900}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        request.addfinalizer(context.close)
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda r: r.url.startswith(("file:", "data:")) or complaints.append(r.url)
        )
        page.goto(f"file://{report[1]}")
        assert complaints == []
        return page

    return opened


def seen(page):
    return page.locator(".card:visible").count()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out(opened, small, width):  # noqa: F811
    page = opened(small, width)
    page.add_style_tag(content=".card { content-visibility: visible !important }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_filters_find_and_run_no_label(opened, small):  # noqa: F811
    page = opened(small)
    assert page.title() == "Evaluation report"
    every = page.locator(".card").count()
    assert seen(page) == every
    for field in ("#kind", "#set"):
        values = page.locator(f"{field} option").evaluate_all("all => all.map(o => o.value)")[1:]
        found = 0
        for value in values:
            page.locator(field).select_option(value)
            assert page.locator("output").inner_text() == f"{seen(page)} of {seen(page)} shown"
            found += seen(page)
        assert found == every
        page.locator(field).select_option("")
    page.locator("#find").fill("<script>")
    assert seen(page) == 1
    assert "<script>document.title" in page.locator(".card:visible .label").text_content()


def test_orders(opened, small):  # noqa: F811
    page = opened(small)
    page.get_by_role("button", name="Worst").click()
    found = page.locator(".card").evaluate_all("all => all.map(c => Number(c.dataset.worst))")
    assert found == sorted(found, reverse=True)


def test_characters_and_colours(opened, small):  # noqa: F811
    levels = []
    for scheme in ("light", "dark"):
        page = opened(small, scheme=scheme)
        with Image.open(io.BytesIO(page.screenshot())) as screenshot:
            levels.append(screenshot.convert("L").getpixel((5, 5)))
    assert levels[0] > 200
    assert levels[1] < 60
    card = page.locator(".card:has(.chip)").first
    card.locator(".chip").first.hover()
    assert card.locator("g.lit").get_attribute("data-i") == "0"
