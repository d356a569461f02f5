"""Tests that all text on the page is also available in Chinese."""

import importlib.resources
import re
from html.parser import HTMLParser

import pytest
import requests
from test_app import BAD_FILES, error_of, post

from cifar_jax import serving

SCRIPTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in importlib.resources.files(serving).iterdir()
    if path.name.endswith(".js")
}
# Patterns of server messages for which the page has a translation.
KNOWN = re.findall(r"^ +\[?/(.+)/,", SCRIPTS["language.js"], re.M)
CHINESE = re.compile("[\u4e00-\u9fff\uff0c]")


@pytest.mark.parametrize("kind", BAD_FILES)
def test_the_messages_of_the_server_are_known(address, kind):
    message = error_of(post(address, BAD_FILES[kind][0]))
    assert any(re.search(pattern, message) for pattern in KNOWN), message


class Texts(HTMLParser):
    """Finds texts, each with the attributes of its element."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[dict[str, str | None]] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "input", "img"):
            self._open.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append((data, self._open[-1]))


def test_every_text_of_the_page_has_its_translation_beside_it(address):
    texts = Texts()
    texts.feed(requests.get(address, timeout=30).content.decode())
    assert len(texts.found) > 10
    for text, attributes in texts.found:
        assert CHINESE.search(attributes.get("data-zh", text)), text


@pytest.mark.parametrize("script", ["answers.js", "examples.js", "page.js"])
def test_every_text_of_the_scripts_has_its_translation_beside_it(script):
    code = re.sub(r"//.*", "", SCRIPTS[script]).replace("${mostMegabytes}", "20")
    # Texts have spaces between words; names, properties and lines of code do not.
    english = re.findall(r'["`]([A-Za-z][^"`\n]* [^"`\n]*)["`]', code)
    if script == "examples.js":
        english = [text for text in english if not re.match(r"M[\d$]", text)]  # shapes
    calls = re.findall(r"told\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)", code)
    for text in english:
        # Texts that match the server's messages are translated like them.
        known = any(re.search(pattern, text) for pattern in KNOWN)
        assert known or any(text in call for call in calls), text
    assert len(calls) >= 5
    for call in calls:
        assert CHINESE.search(call), call
