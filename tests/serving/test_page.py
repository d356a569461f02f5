"""Tests the page in a headless Chromium, if there is one on PATH."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome")

# A script that drops or pastes a file with these bytes and this name.
GIVE = """([kind, bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name));
  const event = kind === "drop"
    ? new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent(kind, { clipboardData: data, bubbles: true });
  document.body.dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(params=["en-US"])
def page(browser, address, request):
    """Returns the page; asserts that it reports no error and loads nothing else."""
    context = browser.new_context(
        viewport={"width": 420, "height": 800}, locale=request.param
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((f"{address}/", "data:"))
            else problems.append(request.url)
        ),
    )
    page.goto(address)
    yield page
    # Chromium reports refused requests there as well.
    assert [p for p in problems if "Failed to load resource" not in p] == []
    context.close()


@pytest.fixture
def picture(tmp_path):
    """Returns the path of a photograph-like file."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def wait_for_answer(page) -> None:
    page.locator("#status", has_text="The network says:").wait_for()


def assert_shows_an_answer(page) -> None:
    wait_for_answer(page)
    shares = page.locator("#classes .share").all_inner_texts()
    widths = page.locator("#classes .bar i").evaluate_all(
        "bars => bars.map(bar => bar.offsetWidth / bar.parentElement.offsetWidth)"
    )
    assert len(shares) == 10
    for share, width in zip(shares, widths, strict=True):
        assert float(share.strip("%")) == pytest.approx(100 * width, abs=1)
    images = page.locator("#result img")
    assert images.count() == 3  # the picture, what the network is given, a layer
    assert images.evaluate_all("all => all.every(i => i.naturalWidth > 20 && i.alt)")
    assert page.locator("#layers figcaption").inner_text().startswith("conv")
    assert page.evaluate("document.scrollingElement.scrollWidth") == 420


def test_a_file_that_is_chosen(page, picture):
    page.get_by_label("Choose a file").set_input_files(picture)
    assert_shows_an_answer(page)
    # It is scrolled to, since it is below the drawing on a phone.
    page.wait_for_function("scrollY > 300")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_file_that_is_dropped_or_pasted(page, picture, kind):
    page.evaluate(GIVE, [kind, list(picture.read_bytes()), "noise.png"])
    assert_shows_an_answer(page)


def test_a_drawing(page):
    page.get_by_label("Color").fill("#ff0000")
    page.get_by_label("Brush").fill("60")
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 100, steps=5)
    page.mouse.up()
    assert_shows_an_answer(page)
    source = page.locator("#picture").get_attribute("src")
    middle = page.evaluate(
        """() => { const canvas = document.createElement("canvas");
        const pen = canvas.getContext("2d"); pen.drawImage(picture, 0, 0);
        return [...pen.getImageData(16, 8, 1, 1).data]; }"""
    )
    assert middle == [255, 0, 0, 255]
    page.get_by_role("button", name="Fill").click()
    page.wait_for_function("before => picture.src !== before", arg=source)
    page.get_by_role("button", name="Clear").click()
    assert not page.locator("#result").is_visible()


def test_bad_files_have_a_message(page, tmp_path, picture):
    page.get_by_label("Choose a file").set_input_files(picture)
    wait_for_answer(page)
    (tmp_path / "notes.txt").write_text("no picture")
    page.get_by_label("Choose a file").set_input_files(tmp_path / "notes.txt")
    page.locator("#status.error", has_text="the file is not a readable").wait_for()
    assert not page.locator("#result").is_visible()
    (tmp_path / "large.png").write_bytes(bytes((20 << 20) + 1))
    page.get_by_label("Choose a file").set_input_files(tmp_path / "large.png")
    page.locator("#status.error", has_text="larger than 20 MB").wait_for()
    page.get_by_label("Choose a file").set_input_files(picture)
    assert_shows_an_answer(page)


def test_by_keyboard(page, picture):
    page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(picture)
    assert_shows_an_answer(page)


@pytest.mark.parametrize("page", ["zh-TW"], indirect=True)
def test_in_chinese(page, tmp_path, picture):
    chooser = page.get_by_label("選擇檔案")
    chooser.set_input_files(picture)
    page.locator("#status", has_text="網路說").wait_for()
    words = page.title() + page.locator("body").inner_text()
    words += "".join(
        page.locator("#result img").evaluate_all("all => all.map(i => i.alt)")
    )
    for name in ("a <small> network", "PNG, JPEG, WEBP, AVIF, GIF, BMP, TIFF", "conv"):
        assert name in words
        words = words.replace(name, "")
    assert not re.search("[A-Za-z]{3}", words.replace("JavaScript", "")), words
    assert page.evaluate("document.documentElement.lang") == "zh-Hant-TW"
    assert page.get_by_role("img", name="畫圖的區域").count() == 1
    (tmp_path / "notes.txt").write_text("no picture")
    chooser.set_input_files(tmp_path / "notes.txt")
    page.locator("#status.error", has_text="不是可以讀取的圖片").wait_for()
    (tmp_path / "large.png").write_bytes(bytes((20 << 20) + 1))
    chooser.set_input_files(tmp_path / "large.png")
    page.locator("#status.error", has_text="超過 20 MB").wait_for()
    page.get_by_role("button", name="清除").click()
    assert page.locator("#status").inner_text() == "答案會出現在這裡。"


def test_a_server_that_has_stopped(page, picture):
    page.route("**/classify", lambda route: route.abort())
    page.get_by_label("Choose a file").set_input_files(picture)
    page.locator("#status.error", has_text="Is the command still running?").wait_for()
