"""Shared by the tests of evaluation reports: a subject, and a parsed page."""

import base64
import html.parser

from cifar_jax.evaluation import report

SUBJECT = report.Subject(
    run="runs/<1>",
    step=1000,
    parameters="averaged",
    split="test",
    examples_in_split=60,
    class_names=("<b>red", "blue & green", "\"never'"),
    data_source="a test",
    data_fingerprint="5f7b" * 16,
    notices=("Beware & <mind>.\nSecond line.",),
    time="2026-11-23 04:47:19.820479",
)
VOID = {"meta", "img", "br", "source"}


class Page(html.parser.HTMLParser):
    """Parsed contents of a page; parsing fails if tags do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.open, self.tags, self.images, self.links = "", [], [], [], []
        self.dark = []  # Shown by dark screens instead of the image that follows.
        self.rows = []  # Of all tables.
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            self.images.append(attributes)
        if tag == "source":
            self.dark.append({"src": attributes["srcset"]} | attributes)
        self.links += [attributes[k] for k in ("src", "href") if k in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data
        if self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


def content(image: dict[str, str], kind: str) -> bytes:
    """Returns the file embedded in an image of the page."""
    head, data = image["src"].split(",")
    assert head == f"data:image/{kind};base64"
    return base64.b64decode(data, validate=True)
