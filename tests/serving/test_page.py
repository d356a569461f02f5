"""Tests the page in a headless Chromium, if there is one on PATH."""

import base64
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from servers import running

from cifar_jax import load_exported

pytestmark = pytest.mark.slow

NAMES = ("chromium", "chromium-browser", "google-chrome")

# A script that drops or pastes files, given by name, and texts, given by type.
GIVE = """([kind, files, texts]) => {
  const data = new DataTransfer();
  for (const [name, bytes] of Object.entries(files)) {
    data.items.add(new File([new Uint8Array(bytes)], name));
  }
  for (const [type, text] of Object.entries(texts)) {
    data.setData(type, text);
  }
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
    # Chromium reports refused requests in the console as well.
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
    assert images.count() == 3  # the picture, the network's input, a layer
    assert images.evaluate_all("all => all.every(i => i.naturalWidth > 20 && i.alt)")
    assert page.locator("#layers figcaption").inner_text().startswith("conv")
    assert page.evaluate("document.scrollingElement.scrollWidth") == 420


def test_a_file_that_is_chosen(page, picture):
    page.get_by_label("Choose files").set_input_files(picture)
    assert_shows_an_answer(page)
    # The page scrolls to it, since it is below the drawing area on a phone.
    page.wait_for_function("scrollY > 300")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_file_that_is_dropped_or_pasted(page, picture, kind):
    page.evaluate(GIVE, [kind, {"noise.png": list(picture.read_bytes())}, {}])
    assert_shows_an_answer(page)
    assert page.locator("#picture-text").inner_text().startswith("noise.png, cropped")


def data_address(picture) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    return f"data:image/png;base64,{data}"


@pytest.mark.parametrize("kind", ["drop", "paste"])
@pytest.mark.parametrize("form", ["html", "list", "plain", "percent"])
def test_an_image_of_another_page_that_has_its_bytes(page, picture, kind, form):
    address = data_address(picture)
    # How Chromium and Firefox copy an image in a link, with attributes from its page.
    html = '<meta charset="utf-8"><a href="https://a.example/"><img style="width: 9px" '
    html += f'onload="document.title = 1" alt="2 > 1" src="{address}"></a>'
    escaped = "".join(f"%{byte:02X}" for byte in picture.read_bytes())
    texts = {
        "html": {"text/html": html, "text/uri-list": "https://a.example/"},
        "list": {"text/uri-list": f"# a comment\r\n{address}\r\n"},
        "plain": {"text/plain": f" {address.replace('+', '%2B')}\n"},
        "percent": {"text/plain": f"data:image/png,{escaped}"},
    }
    page.evaluate(GIVE, [kind, {}, texts[form]])
    assert_shows_an_answer(page)
    assert page.title() == "What does the network see?"


@pytest.mark.parametrize("kind", ["drop", "paste"])
@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        (
            "text/html",
            '<img src="https://a.example/cat.jpg">',
            "Save the image and drop",
        ),
        ("text/html", '<img src="cat.jpg">', "Save the image and drop"),
        ("text/uri-list", "https://a.example/cat.jpg", "Save the image and drop"),
        ("text/plain", "http://a.example/cat.jpg", "Save the image and drop"),
        ("text/plain", "blob:https://a.example/1-2", "Save the image and drop"),
        ("text/plain", "a cat, see https://a.example", "Drop or paste an image, or"),
        (
            "text/html",
            "<p>a <b>cat</b></p>",
            "Drop or paste an image, or choose a file",
        ),
        ("text/plain", "", "Drop or paste an image, or choose a file"),
        ("text/plain", "data:image/png;base64,???", "This picture is damaged"),
        ("text/plain", "data:image/png;base64,AAAA", "is not a readable picture"),
        ("text/plain", "data:,", "is not a readable picture"),
    ],
)
def test_what_is_no_picture_has_a_message(page, kind, type_, text, message):
    page.evaluate(GIVE, [kind, {}, {type_: text}])
    page.locator("#status.error", has_text=message).wait_for()
    assert not page.locator("#result").is_visible()
    assert not page.locator("#several").is_visible()


def test_several_files_are_answered_one_by_one(page, picture, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    files = [picture, tmp_path / "notes.txt", tmp_path / "red.png"]
    events: list[str] = []

    def record(request, event):
        if request.url.endswith("/classify"):
            events.append(event)

    for event in ("request", "requestfinished"):
        page.on(event, lambda request, event=event: record(request, event))
    page.get_by_label("Choose files").set_input_files(files)
    page.locator("#several-text", has_text="3 of 3 pictures.").wait_for()
    wait_for_answer(page)
    assert events == ["request", "requestfinished"] * 3
    entries = page.locator("#answers button")
    names = entries.locator("b").all_inner_texts()
    assert names == ["noise.png", "notes.txt", "red.png"]
    verdicts = entries.locator("span").all_inner_texts()
    assert re.fullmatch(r"[a-l], \d+\.\d%", verdicts[0])
    assert verdicts[1].startswith("the file is not a readable picture")
    # The first one is shown until another one is chosen.
    assert page.locator("#picture-text").inner_text().startswith("noise.png, ")
    entries.nth(2).click()
    assert page.locator("#picture-text").inner_text().startswith("red.png, ")
    assert f"says: {verdicts[2]}." in page.locator("#status").inner_text()
    entries.nth(1).click()
    page.locator("#status.error", has_text="not a readable picture").wait_for()
    assert not page.locator("#result").is_visible()
    assert page.locator("[aria-pressed=true]").count() == 1
    assert page.evaluate("document.scrollingElement.scrollWidth") == 420
    # The next input replaces all of them.
    page.evaluate(GIVE, ["drop", {"noise.png": list(picture.read_bytes())}, {}])
    assert_shows_an_answer(page)
    assert not page.locator("#several").is_visible()


def test_files_beyond_those_answered_at_a_time_are_counted(page, picture):
    bytes_ = list(picture.read_bytes())
    page.evaluate(GIVE, ["drop", {f"{i}.png": bytes_ for i in range(52)}, {}])
    text = "50 of 52 pictures. Choose one to see the full answer. At most 50 are"
    page.locator("#several-text", has_text=text).wait_for()
    wait_for_answer(page)
    assert page.locator("#answers button").count() == 50


def test_a_folder_that_is_dropped_has_a_message(page, picture):
    # As browsers do with a folder's entry.
    page.evaluate(
        "() => { File.prototype.arrayBuffer = () => Promise.reject(new Error()); }"
    )
    page.evaluate(GIVE, ["drop", {"photos": []}, {}])
    message = "The browser cannot read photos. If it is a folder, choose the pictures"
    page.locator("#status.error", has_text=message).wait_for()


def test_an_example(page):
    page.get_by_role("button", name="ship").click()
    assert_shows_an_answer(page)
    text = page.locator("#picture-text").inner_text()
    assert text.startswith("our drawing: ship, ")


def test_the_network_of_the_package_knows_the_examples(browser):
    network = load_exported()
    with running(network) as (host, port):
        page = browser.new_page()
        page.goto(f"http://{host}:{port}")
        buttons = page.locator("#examples button")
        right = 0
        for i in range(buttons.count()):
            buttons.nth(i).click()
            name = buttons.nth(i).inner_text()
            page.locator("#picture-text", has_text=f"{name}, cropped").wait_for()
            right += page.locator("#classes .name").first.inner_text() == name
        count = buttons.count()
        page.close()
    # The last bits of its logits depend on the machine.
    assert count == 8
    assert right >= 6


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
    page.get_by_label("Choose files").set_input_files(picture)
    wait_for_answer(page)
    (tmp_path / "notes.txt").write_text("no picture")
    page.get_by_label("Choose files").set_input_files(tmp_path / "notes.txt")
    page.locator("#status.error", has_text="the file is not a readable").wait_for()
    assert not page.locator("#result").is_visible()
    (tmp_path / "large.png").write_bytes(bytes((20 << 20) + 1))
    page.get_by_label("Choose files").set_input_files(tmp_path / "large.png")
    page.locator("#status.error", has_text="larger than 20 MB").wait_for()
    page.get_by_label("Choose files").set_input_files(picture)
    assert_shows_an_answer(page)


def test_by_keyboard(page, picture):
    page.bring_to_front()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()
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
    for name in (
        "noise.png",
        "a <small> network",
        "PNG, JPEG, WEBP, AVIF, GIF, BMP, TIFF",
        "conv",
    ):
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
    page.get_by_label("Choose files").set_input_files(picture)
    page.locator("#status.error", has_text="Is the command still running?").wait_for()
