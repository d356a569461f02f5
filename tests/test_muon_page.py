"""Tests that docs/muon.md quotes its two studies, and that their flags still work."""

import json
import re

import pytest
from run_experiments import ROOT

from cifar_jax.studies import space

TEXT = (ROOT / "docs" / "muon.md").read_text(encoding="utf-8")
FLAGS = ROOT / "experiments" / "accuracy" / "muon"
# The base learning rate of the recipe, which the files multiply.
RATE = 0.12


def tried(name: str) -> dict[str, dict]:
    """Returns the rows of a study by setting."""
    path = ROOT / "experiments" / "accuracy" / "results" / f"{name}.json"
    rows = json.loads(path.read_text())["settings tried"]
    return {row["setting"]["kernels"]: row for row in rows}


def varied(name: str) -> list[str]:
    """Returns the settings in the flags of a study."""
    [vary] = re.findall("^--vary=(.*)$", (FLAGS / f"{name}.flags").read_text(), re.M)
    fixed = {"param_groups": (FLAGS / "network.flags").read_text()}
    return list(space.read([vary], fixed)["kernels"].choices)


@pytest.mark.parametrize(
    ("flags", "result"), [("search", "muon_search"), ("seeds", "muon")]
)
def test_the_results_are_of_these_settings(flags, result):
    assert {*tried(result)} == {*varied(flags)}


def test_the_table_of_the_search():
    header, *rows = re.findall(r"^\| (.*) \|$", TEXT.split("## Five seeds")[0], re.M)
    rates = header.split(" | ")[2:]
    quoted = {}
    for row in rows[1:]:
        optimizer, decay, *cells = (cell.strip(" *") for cell in row.split("|"))
        for rate, cell in zip(rates, cells, strict=True):
            if cell:
                quoted[optimizer, decay, rate] = cell
    expected = {}
    for setting, row in tried("muon_search").items():
        optimizer = "SGD" if "sgd" in setting else "Muon"
        decay = "0" if "weight_decay=0" in setting else "0.0013"
        factor = float(re.search(r"learning_rate=([\d.]+)", setting)[1])
        mean = row["summary"]["mean"]
        expected[optimizer, decay, f"{RATE * factor:.2f}"] = f"{mean:.3f}"
    assert quoted == expected
    for optimizer in ("SGD", "Muon"):
        of_one = {key: cell for key, cell in quoted.items() if key[0] == optimizer}
        assert f"**{max(of_one.values())}**" in TEXT


def test_the_five_seeds():
    sgd, muon = sorted(tried("muon").values(), key=lambda row: row["summary"]["mean"])
    for row in (sgd, muon):
        assert row["summary"]["n"] == 5
        found = row["summary"]
        assert f"{found['mean']:.4f} | {found['sd']:.4f}" in TEXT
    difference = muon["difference"]
    low, high = difference["interval"]
    assert f"{difference['mean']:+.4f} | {low:+.4f} to {high:+.4f}" in TEXT


@pytest.mark.slow
def test_the_flags_work(run_command, tmp_path):
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    done = run_command(
        "study",
        "--flagfile=experiments/accuracy/muon/seeds.flags",
        *("--dataset=digits", "--max_steps=2", "--batch_size=8", "--seeds=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "(2 of 2 runs)" in done.stdout
