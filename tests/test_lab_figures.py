"""Tests that the lab quotes the experiments' saved results.

Measuring a result again changes the rows expected here; the failing test tells which
row is missing on which page.
"""

import json
import re
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from run_experiments import ROOT, quoted
from test_lab import NARROW, each_language, read, rows

from experiments.course import convolution as examples


def result(name: str) -> Any:
    """Returns the contents of a result."""
    return json.loads(quoted(name).read_text(encoding="utf-8"))


def grouped(records: list[dict[str, Any]], *keys: str) -> dict[Any, list[dict]]:
    """Returns records by the values of keys, in order."""
    found = defaultdict(list)
    for record in records:
        values = tuple(record[key] for key in keys)
        found[values if len(keys) > 1 else values[0]].append(record)
    return dict(found)


def spread(values: list[float], with_count: bool = True) -> str:
    """Returns the mean, standard deviation and count as the lab writes them."""
    words = [f"sd {np.std(values, ddof=1):.3f}"] if len(values) > 1 else []
    words += [f"n {len(values)}"] if with_count else []
    return f"{np.mean(values):.3f} ({', '.join(words)})"


def convolution() -> list[list[str]]:
    costs = result("convolution")["costs_of_strides"]
    return [
        [
            str(cost["stride"]),
            f"{cost['size']}x{cost['size']}",
            f"{cost['multiplications'] / 1e9:.2f}",
            f"{cost['milliseconds'] / costs[0]['milliseconds']:.2f}",
        ]
        for cost in costs
    ]


def pooling() -> list[list[str]]:
    record = result("pooling")
    runs = grouped(record["rows"], "variant")
    found = []
    for fact in record["pools"]:
        sizes = ", ".join("x".join(size.split(" x ")[:2]) for size in fact["sizes"][1:])
        mean = np.mean([run["test"] for run in runs[fact["pools"]]])
        found.append([fact["pools"], sizes, f"{mean:.3f}"])
    return found


def why_pooling() -> list[list[str]]:
    figures = ("train_eval", "test", "shift_2", "shift_4", "shift_8")
    return [
        [name, *(f"{np.mean([run[key] for run in runs]):.3f}" for key in figures)]
        for name, runs in grouped(result("why_pooling")["rows"], "variant").items()
    ]


def zeros() -> list[list[str]]:
    layers = result("feature_maps")["layers"]
    return [
        [name, "x".join(map(str, layer["shape"])), f"{layer['share_of_zeros']:.0%}"]
        for name, layer in layers.items()
        if name not in ("input", "softmax_linear")
    ]


def changes() -> list[list[str]]:
    layers = result("feature_maps")["layers"]
    return [
        [name, *(f"{change:.3f}" for change in layers[name]["change"].values())]
        for name in ("conv1", "conv2", "local4")
    ]


def noise() -> list[list[str]]:
    cases = result("noise")["cases"]
    return [
        [f"sigma {case['strength']}", f"{case['precision']:.3f}"]
        for case in cases
        if case["corruption"] in ("none", "noise")
    ]


def recipes() -> list[list[str]]:
    on_cpu, on_gpu = (
        {record["name"]: record for record in result(name)["recipes"]}
        for name in ("recipes", "recipes_gpu")
    )
    found = []
    for name in ("cuda_convnet_18pct", "cuda_convnet_11pct"):
        long = on_gpu[name]
        cells = [
            spread([run["precision"] for run in record["results"]])
            for record in (on_cpu[name], long)
        ]
        steps = f"{long['steps']:,} / {long['steps_of_the_recipe']:,}"
        found.append([f"`{name}`", *cells, steps])
    return found


def fifteen_percent() -> list[list[str]]:
    return [
        [setting, spread([*found["precision"].values()])]
        for setting, found in result("fifteen_percent")["final"].items()
    ]


def fidelity() -> list[list[str]]:
    programs = result("fidelity")["programs"]
    return [
        [
            title,
            *(
                spread([run[key] for run in programs[name]], with_count=False)
                for key in ("step_0_loss", "precision")
            ),
        ]
        for title, name in (("cifar_jax", "float32"), ("TensorFlow", "TensorFlow"))
    ]


def max_steps() -> list[list[str]]:
    found = []
    for steps, at_step in grouped(result("max_steps")["rows"], "steps").items():
        by_kind = grouped(at_step, "parameters")
        kinds = (by_kind[f"{kind} parameters"] for kind in ("averaged", "raw"))
        cells = (spread([row["precision"] for row in kind]) for kind in kinds)
        found.append([f"{steps:,}", *cells])
    return found


# The page that has the rows.
MEASURED = {
    convolution: "1",
    pooling: "1",
    why_pooling: "1",
    zeros: "2",
    changes: "2",
    noise: "2",
    recipes: "4",
    fifteen_percent: "4",
    fidelity: "4",
    max_steps: "4",
}


@each_language
@pytest.mark.parametrize("expected", MEASURED, ids=lambda function: function.__name__)
def test_the_lab_quotes_what_was_measured(language, expected):
    page = MEASURED[expected]
    table = rows(read(language, page))
    for row in expected():
        assert row in table, f"no row | {' | '.join(row)} | in {language}/{page}"


def test_the_picture_of_one_hot_codes_is_that_of_the_examples():
    assert result("convolution")["one_hot"] == examples.one_hot()


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "experiments").glob("*/results/*.json")),
    ids=lambda p: p.stem,
)
def test_results_are_of_the_official_pixels(path):
    text = path.read_text(encoding="utf-8")
    # `load_data` writes "official" before the name only if the pixels are.
    assert text.count("CIFAR-10, from ") == text.count("official CIFAR-10, from ")
    # Earlier versions described other pixels with these words.
    assert "not the official" not in text


@each_language
def test_what_noise_does_is_told_in_numbers(language):
    text = read(language, "2")
    precision = dict(noise())
    assert f"({precision['sigma 0']} - {precision['sigma 20']}) x 10,000 = " in text
    left = float(precision["sigma 40"]) / float(precision["sigma 0"])
    assert 1 - left == pytest.approx(2 / 3, abs=0.02)  # "two thirds are lost"
    assert float(precision["sigma 0"]) - float(precision["sigma 5"]) < 0.01
    answer = re.search(r"^1\. .*sigma 5(?s:.*?)</details>", text, re.M)[0]
    for name, *figures in changes():
        for figure in (figures[0], figures[3]):
            assert figure in answer, name
    # The figures are those of the number of steps that the page asks for.
    steps = result("feature_maps")["step"]
    assert result("noise")["networks"]["tutorial"]["step"] == steps
    assert f"--max_steps={steps} " in text


@each_language
def test_what_more_steps_bring_is_told_in_numbers(language):
    text = read(language, "4")
    table = {row[0]: row[1].split()[0] for row in max_steps()}
    for few, many in (("500", "1,000"), ("1,000", "2,000"), ("5,000", "10,000")):
        assert f"{table[many]} - {table[few]} = " in text
    answer = re.search(r"^3\. .*0\.088(?s:.*?)</details>", text, re.M)[0]
    found = grouped(result("max_steps")["rows"], "steps", "parameters")
    step = float(table["2,000"]) - float(table["1,000"])
    for steps in (1000, 2000):
        runs = [row["precision"] for row in found[steps, "averaged parameters"]]
        assert f"{np.std(runs, ddof=1):.3f}" in answer
        assert 5 * np.std(runs, ddof=1) < step


@each_language
def test_errors_on_the_gpu_are_told_in_numbers(language):
    for record in result("recipes_gpu")["recipes"][:2]:
        precision = record["results"][0]["precision"]
        assert f"1 - {precision:.3f} = {1 - precision:.1%}" in read(language, "4")


@each_language
def test_what_was_measured_without_a_part_of_the_recipe(language):
    runs = grouped(result("ablation")["rows"], "variant")
    for page, variant, figure in (
        ("2", "all of it", "test"),
        ("2", "no LRN", "test"),
        ("4", "no drop of the learning rate", "train_eval"),
        ("4", "no drop of the learning rate", "test"),
    ):
        cell = spread([run[figure] for run in runs[variant]])
        assert cell in " ".join(read(language, page).split()), variant


@each_language
def test_trials_of_the_search_are_better_than_the_published_setting(language):
    searches = result("fifteen_percent")["searches"]
    counts = []
    for method in ("Gaussian process", "random"):
        later = [trial for trial in searches[method] if trial["number"] >= 8]
        better = [t for t in later if t["difference"] and t["difference"]["mean"] > 0]
        counts += [len(later), len(better)]
    sentence = {
        "en": "own {} trials, {} beat the published setting on held-out images; "
        "of {} more random ones, {} did.",
        "zh-TW": "自己的 {} 次嘗試有 {} 次比公布的設定好,另外 {} 次隨機嘗試只有 {} 次",
    }[language]
    text = " ".join(read(language, "4").translate(NARROW).split())
    assert sentence.format(*counts) in text


def test_noise_grows_in_the_convolutions_and_shrinks_in_the_dense_layers():
    layers = result("feature_maps")["layers"]
    for kind in ("sigma 5", "sigma 10", "sigma 20", "sigma 40"):
        conv1, conv2, local4 = (
            layers[name]["change"][kind] for name in ("conv1", "conv2", "local4")
        )
        assert conv1 < conv2 > local4


def test_pooling_guards_against_overfitting():
    pooled, without = ([float(cell) for cell in row[1:3]] for row in why_pooling())
    assert pooled[0] < without[0]
    assert pooled[1] > without[1]
