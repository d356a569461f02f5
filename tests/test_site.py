"""Tests the site that docs/site builds from the pages."""

import html
import json
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

pytest.importorskip("mkdocs")
pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    """Returns the folder of the site, in which every link leads somewhere."""
    folder = tmp_path_factory.mktemp("site")
    flags = (f"--config-file={CONFIG}", f"--site-dir={folder}")
    words = (sys.executable, "-m", "mkdocs", "build", "--strict", *flags)
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def read(site: pathlib.Path, page: str) -> str:
    """Returns the HTML of a page."""
    return (site / page / "index.html").read_text(encoding="utf-8")


def test_every_page_is_there(site):
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        assert "<h1" in read(site, name.replace("lab/README", "lab"))


def test_the_readme_is_the_home_page_and_leads_to_pages(site):
    home = read(site, ".")
    for target in ("commands/", "lab/", "architecture/#the-reading-path"):
        assert f'href="{target}"' in home
    for picture in re.findall(r'<img [^>]*src="([^"]+)"', home):
        assert (site / picture).is_file(), picture


def test_links_to_other_files_lead_to_the_repository(site):
    found = re.findall(r'href="([^"]+train_step\.json)"', read(site, "speed"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    place = "/blob/main/experiments/speed/results/train_step.json"
    assert found == [project["urls"]["Repository"] + place]


def test_around_chinese_pages_everything_is_in_chinese(site):
    chinese = read(site, "lab/zh-TW/1-convolution")
    english = read(site, "lab/en/1-convolution")
    assert '<html lang="zh-TW"' in chinese
    assert '<html lang="en"' in english
    for page, words in (
        (chinese, ("首頁", "結果", "搜尋", "目錄", "1. 卷積與池化")),
        (english, ("Home", "Results", "Search", "Table of contents", "1. Conv")),
    ):
        for word in words:
            assert word in page
    assert "Results" not in chinese.split("<article")[0]


def test_search_finds_chinese_words(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    between = json.loads(index)["config"]["separator"]
    assert re.sub(between, " ", "1. 卷積與池化") == "1 卷 積 與 池 化"


def test_the_reference_has_settings_shapes_and_docstrings(site):
    text = html.unescape(re.sub(r"<[^>]+>", "", read(site, "reference")))
    assert "Images per training step, across all devices." in text
    assert 'images: UInt8[Any, "n h w c"],' in text
    assert "Returns the logits of each image." in text
