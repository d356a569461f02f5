"""Tests that CITATION.cff and CHANGELOG.md say what pyproject.toml and the code do."""

import pathlib
import re
import tomllib

import cifar_jax
from cifar_jax.config.recipes import RECIPES

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
CITATION = (ROOT / "CITATION.cff").read_text()


def test_the_citation_is_of_this_version_and_license():
    fields = dict(re.findall(r"^([\w-]+): *(.*)$", CITATION, re.M))
    assert fields["version"] == PROJECT["version"] == cifar_jax.__version__
    assert fields["license"] == PROJECT["license"]
    assert PROJECT["description"] in fields["title"]
    keywords = CITATION.split("keywords:\n")[1].split("references:")[0]
    assert re.findall(r"- (.*)", keywords) == PROJECT["keywords"]


def test_the_address_is_the_same_everywhere():
    """Whoever publishes the code replaces OWNER, in all these places."""
    address = PROJECT["urls"]["Repository"]
    assert f"repository-code: {address}\n" in CITATION
    readme = (ROOT / "README.md").read_text()
    assert f"`git clone {address}`" in readme
    assert f"[ZIP]({address}/archive/HEAD.zip)" in readme
    for notebook in ("docs/lab/lab3.ipynb", "docs/research.ipynb"):
        assert f'REPOSITORY = \\"{address}\\"' in (ROOT / notebook).read_text()
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        found = re.findall(r"https://github\.com/\w+/cifar_jax", page.read_text())
        assert {*found} <= {address}, page


def test_the_addresses_are_of_one_owner():
    address = PROJECT["urls"]["Repository"]
    owner, name = address.split("/")[-2:]
    assert PROJECT["urls"] == {
        "Repository": address,
        "Documentation": f"https://{owner}.github.io/{name}",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def test_other_packages_see_the_types():
    assert (ROOT / "cifar_jax" / "py.typed").is_file()


def test_the_newest_entry_is_of_this_version():
    newest = CHANGELOG.split("\n## ")[1]
    assert re.search(rf"\b{re.escape(PROJECT['version'])}\b", newest)


def test_all_recipes_are_counted():
    counts = {"tutorial": 1, "cuda_convnet": 2, "vgg16_bn": 1, "resnet18": 2}
    counts |= {"airbench": 4, "sprint": 1, "finetune": 1}
    counts |= {"resnet20": 1, "resnet56": 1, "preact_resnet18": 1, "wrn28_10": 1}
    counts |= {"densenet100": 1, "vit_s": 1, "conv_mixer": 1}
    for beginning, count in counts.items():
        assert sum(name.startswith(beginning) for name in RECIPES) == count
    assert sum(counts.values()) == len(RECIPES)
