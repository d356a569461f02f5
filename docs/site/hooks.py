"""MkDocs hooks that build a site from pages written to be read in the repository.

The README becomes the home page, links to files outside the site lead to the
repository, pictures of experiments are included, and Chinese pages get Chinese
navigation.
"""

import dataclasses
import os
import pathlib
import re
import tomllib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from cifar_jax import Config

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
URLS = PROJECT["project"]["urls"]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)")
CHINESE = {
    "Home": "首頁",
    "Use": "使用",
    "Results": "結果",
    "Code": "程式",
    "Lab": "英文實驗課",
}
# The classes and functions of the package are those in `__all__`.
REFERENCE = """# Reference

The public names of `cifar_jax`; [the page on Python](python.md) shows them in use.
Signatures include shapes: `UInt8[np.ndarray, "n h w c"]` is an array of bytes with four
axes, and axes of the same name have the same length.

## Settings

The fields of `Config`, which are also the flags of `train`. Recipes change some of the
defaults.

| setting | default | meaning |
| --- | --- | --- |
{settings}

::: cifar_jax
    options:
      show_root_toc_entry: false
"""


def on_config(config: MkDocsConfig) -> None:
    """Takes the addresses from pyproject.toml."""
    config.repo_url, config.repo_name = URLS["Repository"], "cifar_jax"
    config.site_url = URLS["Documentation"]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the home page, the reference, and pictures that are not in docs."""
    for path in ROOT.glob("experiments/**/*.png"):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    home = (ROOT / "README.md").read_text(encoding="utf-8")
    home = LINK.sub(lambda link: _target(link[1], ROOT, "index.md", files), home)
    files.append(File.generated(config, "index.md", content=home))
    files.append(File.generated(config, "reference.md", content=_reference()))


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Points links to files outside docs to the site or to the repository."""
    if page.file.generated_by:
        return markdown
    folder = (ROOT / "docs" / page.file.src_uri).parent
    return LINK.sub(lambda m: _target(m[1], folder, page.file.src_uri, files), markdown)


def on_page_context(
    context: dict, page: Page, config: MkDocsConfig, nav: Navigation
) -> None:
    """Sets the language of the labels and section titles around a page."""
    chinese = page.file.src_uri.startswith("lab/zh-TW/")
    config.theme["language"] = "zh-TW" if chinese else "en"
    names = CHINESE if chinese else {name: english for english, name in CHINESE.items()}
    for item in nav.items:
        item.title = names.get(item.title or "", item.title)


def _reference() -> str:
    """Returns the reference page, with a table of all settings."""
    fields = ((f.name, f.metadata) for f in dataclasses.fields(Config))
    rows = (f"| `{name}` | `{m['default']}` | {m['help']} |" for name, m in fields)
    return REFERENCE.format(settings="\n".join(rows))


def _target(target: str, folder: pathlib.Path, source: str, files: Files) -> str:
    """Returns the target that a link in a repository file has on the site.

    Args:
        target: the link's target in the repository, without the part after #.
        folder: the folder that the target is relative to.
        source: MkDocs' name for the page that contains the link.
        files: all files of the site.
    """
    path = pathlib.Path(os.path.normpath(folder / target))
    if not path.exists():
        return target  # MkDocs reports it
    name = path.relative_to(ROOT).as_posix()
    page = name.removeprefix("docs/")
    if not files.get_file_from_path(page):
        kind = "tree" if path.is_dir() else "blob"
        return f"{URLS['Repository']}/{kind}/main/{name}"
    return os.path.relpath(page, pathlib.PurePosixPath(source).parent).replace(
        os.sep, "/"
    )
