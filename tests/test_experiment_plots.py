"""Tests that the experiments' figures are complete and show the records' values."""

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from run_experiments import call, quoted

from experiments.accuracy import (
    fidelity_plot,
    fifteen_percent_plot,
    recipes,
    sprint_report,
)
from experiments.course import (
    ablation,
    augmentation,
    feature_maps_plot,
    max_steps,
    noise_plot,
    pooling,
    why_pooling,
)
from experiments.course.corruptions import CORRUPTIONS
from experiments.devices import multi_device_scaling
from experiments.harness import common, plots
from experiments.speed import scaling as benchmark_scaling

EXAMPLES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


def draw_noise(record: dict[str, Any]) -> Figure:
    return noise_plot.draw(record, EXAMPLES, chance=0.1)


# By the name of the saved results.
DRAW: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "ablation": ablation.draw,
    "augmentation": augmentation.draw,
    "fidelity": fidelity_plot.draw,
    "fifteen_percent": fifteen_percent_plot.draw,
    "max_steps": max_steps.draw,
    "multi_device_scaling": multi_device_scaling.draw,
    "noise": draw_noise,
    "pooling": pooling.draw,
    "recipes": recipes.draw,
    "scaling": benchmark_scaling.draw,
    "sprint": sprint_report.draw,
    "sprint_gpu": sprint_report.draw,
}
SOURCE = {"source": "the data", "fingerprint": "0"}
FACTS = {"device": "cpu: cpu", "processor": "Abacus", "cores": 2}


def kept(name: str) -> dict[str, Any]:
    """Returns the record of the saved results."""
    path = quoted(name)
    return json.loads(path.read_text(encoding="utf-8"))


def texts(figure: Figure) -> str:
    """Returns all text in a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def check(figure: Figure) -> None:
    """Checks that all of the figure is visible, and that it states its subject."""
    assert figure.get_figwidth() == plots.WIDTH
    assert figure.get_suptitle()
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()  # in inches, of everything visible
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()
    written = [text for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in written) >= 8
    assert all(axis.has_data() for axis in figure.axes)


@pytest.mark.parametrize("name", DRAW)
def test_kept_results_can_be_drawn_again(name):
    check(DRAW[name](kept(name)))


def study(*runs: tuple[str, int, float]) -> dict[str, Any]:
    """Returns a record with rows of variant, seed and precision."""
    rows = [
        {"variant": variant, "seed": seed, "test": value, "train_eval": value + 0.1}
        | {f"shift_{distance:g}": value - 0.1 for distance in why_pooling.SHIFTS}
        for variant, seed, value in runs
    ]
    return {"data": SOURCE, "settings": {"max_steps": 1000}, "rows": rows}


def test_a_study_with_one_seed_has_neither_means_nor_spreads():
    figure = augmentation.draw(study(("all", 0, 0.5), ("none", 0, 0.4)))
    check(figure)
    [axis] = figure.axes
    drawn = [line for line in axis.lines if len(line.get_xdata())]
    assert sorted(line.get_xdata()[0] for line in drawn) == [0.4, 0.5, 0.5, 0.6]
    assert {line.get_linestyle() for line in drawn} == {"None"}
    assert "a dot is a run (n = 1 per row)\n" in texts(figure)


def test_a_study_that_lacks_runs_says_so():
    runs = [("all", 0, 0.5), ("none", 0, 0.4), ("all", 1, 0.6)]
    figure = ablation.draw(study(*runs))
    check(figure)
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    # The mean of the only variant with two runs, on test and on training images.
    means = [line.get_xdata() for line in lines]
    assert means == [pytest.approx([0.55] * 2), pytest.approx([0.65] * 2)]
    assert "a dot is a run (n = 1 to 2 per row), a line the mean" in texts(figure)
    # The early drop of the learning rate is in the title.
    assert "drops after 600 steps" in figure.get_suptitle()
    [legend] = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["test images", "training images, undistorted"]


def test_what_pooling_is_good_for():
    runs = [(name, 0, 0.5 + 0.1 * i) for i, name in enumerate(why_pooling.TRAINED)]
    figure = why_pooling.draw(study(*runs))
    check(figure)
    assert [axis.get_title() for axis in figure.axes] == [
        *("Overfitting", "Shifted test images"),
    ]
    assert "a dot is a run (n = 1)" in texts(figure)
    assert set(why_pooling.TRAINED) <= set(texts(figure).split("\n"))


def test_max_steps_has_a_line_for_each_seed_and_the_claims():
    rows = [
        {"seed": seed, "steps": steps, "parameters": kind, "precision": 0.5}
        for seed, all_steps in ((0, (10, 20, 50)), (1, (10, 20)))
        for steps in all_steps
        for kind in max_steps.KINDS.values()
    ]
    figure = max_steps.draw({"data": SOURCE, "rows": rows})
    check(figure)
    *lines, claims = figure.axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [3, 2, 3, 2]
    assert claims.get_xydata().tolist() == [[60_000, 0.86], [100_000, 0.86]]
    assert "n = 2 to step 20, n = 1 to step 50" in texts(figure)


def of_programs(**counts: int) -> dict[str, Any]:
    """Returns a record of fidelity with this many runs of each program."""
    programs = {
        name: [
            {"precision": 0.6, "precision_raw": 0.5, "loss": [[0, 4.7], [10, 4.0 + i]]}
            for i in range(count)
        ]
        for name, count in counts.items()
    }
    return {
        "machine": FACTS,
        "data": SOURCE,
        "max_steps": 1000,
        "programs": programs,
    }


def test_curves_of_tensorflow_and_ours_are_in_one_panel():
    figure = fidelity_plot.draw(of_programs(TensorFlow=3, float32=2, bfloat16=1))
    check(figure)
    losses, precisions = figure.axes
    assert [line.get_ydata()[-1] for line in losses.lines] == [5.0, 4.5, 4.0]
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == [
        *("TensorFlow: mean, n = 3", "TensorFlow: range", "float32: mean, n = 2"),
        "bfloat16: n = 1",
    ]
    rows = [label.get_text() for label in precisions.get_yticklabels()]
    assert rows == ["TensorFlow", "float32", "bfloat16"]
    assert "the course's 0.610" in texts(figure)


def test_without_tensorflow_ours_are_still_drawn():
    record = of_programs(float32=1)
    record["max_steps"] = 500
    figure = fidelity_plot.draw(record)
    check(figure)
    assert not figure.axes[0].collections  # One run has no range.
    assert "course" not in texts(figure)


def test_losses_are_compared_at_the_steps_that_all_runs_have():
    runs = [{"loss": [[0, 3], [10, 2]]}, {"loss": [[0, 5], [5, 9]]}, {"loss": []}]
    steps, values = fidelity_plot.losses(runs)
    assert steps == [0]
    assert values.tolist() == [[3], [5]]
    assert fidelity_plot.losses([{"loss": []}])[0] == []


def test_recipes_say_how_far_they_have_been_shortened():
    shared = {"steps": 500, "steps_of_the_recipe": 20_000, "batch_size": 100}
    done = [
        {"name": name, "data": SOURCE, **shared, "results": results}
        for name, results in {
            "one": [{"precision": 0.3, "train_seconds": 60}],
            "two": [{"precision": x, "train_seconds": 600 * x} for x in (0.4, 0.5)],
        }.items()
    ]
    for result in (result for record in done for result in record["results"]):
        result["evaluations"] = [(250, 0.2), (500, result["precision"])]
    done[1]["steps_of_the_recipe"] = 500
    figure = recipes.draw({"machine": FACTS, "recipes": done})
    check(figure)
    assert {
        "one: 0.300 (n = 1)\n500 of 20,000 steps",
        "two: 0.450 (n = 2)\nall 500 steps",
    } <= {text.get_text() for text in figure.axes[1].texts}
    assert not figure.legends
    epochs, minutes = figure.axes
    one, _, first, second, last = epochs.lines
    assert one.get_xydata().tolist() == [[0.5, 0.2], [1, 0.3]]
    assert first.get_xydata().tolist() == [[0.5, 0.2], [1, 0.4]]
    assert second.get_xydata().tolist() == [[0.5, 0.2], [1, 0.5]]
    assert last.get_xydata().tolist() == [[1, 0.4], [1, 0.5]]
    assert minutes.lines[1].get_xydata().tolist() == [[4, 0.4], [5, 0.5]]
    assert "epochs" in epochs.get_xlabel()
    assert "minutes" in minutes.get_xlabel()


def test_recipes_without_evaluations_on_the_way_have_no_panel_of_epochs():
    figure = recipes.draw(kept("recipes"))
    [minutes] = figure.axes
    assert "minutes" in minutes.get_xlabel()
    assert "precision @ 1" in minutes.get_ylabel()


@pytest.mark.parametrize(
    "heights", [[0.5], [0.5, 0.5, 0.5], [0, 0.01, 0.5, 1, 1], [1, 0, 0.99, 0.98]]
)
def test_labels_at_the_right_cover_neither_each_other_nor_the_panel(heights):
    figure = plots.figure(5, "labels")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1])
    names = [f"{i}\nof {len(heights)}" for i in range(len(heights))]
    plots.label_at_right(
        figure, axis, list(zip(heights, names, plots.STYLES, strict=False))
    )
    check(figure)
    written = {text.get_text(): text for text in axis.texts if text.get_text()}
    boxes = [written[name].get_window_extent() for name in names]
    for i, box in enumerate(boxes):
        assert box.x0 > axis.get_window_extent().x1
        assert not any(box.overlaps(other) for other in boxes[:i])
    # In order of height.
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    assert sorted(order, key=lambda i: boxes[i].y0) == order


def test_the_searches_are_apart_and_the_line_between_trials_is_explained():
    figure = fifteen_percent_plot.draw(kept("fifteen_percent"))
    assert [axis.get_title() for axis in figure.axes] == ["random", "Gaussian process"]
    random, process = (axis.lines[0].get_ydata() for axis in figure.axes)
    assert len(random) == len(process) == 20
    assert random[:8].tolist() == process[:8].tolist()
    [first, own] = (text.get_text() for text in figure.axes[1].texts)
    assert (first, own) == ("first 8\nin both", "its own")
    # The published setting comes first.
    assert all(set(a.lines[2].get_ydata()) == {random[0]} for a in figure.axes)
    top = max(*random, *process)
    assert all(axis.get_ylim()[1] > 1.15 * top for axis in figure.axes)


def over_devices(calls: int) -> dict[str, Any]:
    """Returns a record in which averaging the gradients seems to save time."""
    cases = [
        {
            "devices": devices,
            "batch_size": 8,
            "seconds_per_step": [1.0 + 0.1 * call for call in range(calls)],
            "seconds_without_collective": [1.2] * calls if devices > 1 else [],
        }
        for devices in (1, 2)
    ]
    return {"machine": FACTS, "strong": cases, "weak": cases}


def test_a_share_of_the_collective_is_never_negative():
    record = over_devices(calls=3)
    alone, both = record["strong"]
    assert multi_device_scaling.share(alone) == ""
    assert multi_device_scaling.share(both) == "within noise"
    assert multi_device_scaling.share(both | {"seconds_per_step": [2.0]}) == "40%"
    figure = multi_device_scaling.draw(record)
    check(figure)
    assert "a dot is the median of 3 calls, a bar their range" in texts(figure)
    assert "fake devices on Abacus, 2 cores" in texts(figure)
    for axis in figure.axes:
        assert axis.get_ylim()[0] == 0
        training, without = axis.containers
        assert training.has_yerr
        assert [len(part[0].get_xdata()) for part in (training, without)] == [2, 1]


def test_a_single_call_has_no_error_bars():
    figure = multi_device_scaling.draw(over_devices(calls=1))
    assert "n = 1" in texts(figure)
    assert not any(part.has_yerr for axis in figure.axes for part in axis.containers)


def test_noise_draws_what_is_measured_and_says_how_wide_the_bars_are():
    cases = [
        {
            "network": "ours",
            "corruption": corruption,
            "level": level,
            "precision": 0.5,
            "standard_error": 0.03,
        }
        for corruption, level in [("none", 0), ("noise", 1), ("shift", 1), ("shift", 2)]
    ]
    record = {"cases": cases, "seed": 0, "images": 200, "data": "the data"}
    figure = draw_noise(record)
    panels = [axis for axis in figure.axes if axis.containers]
    assert [axis.get_xlabel() for axis in panels] == [
        CORRUPTIONS[name].parameter for name in ("noise", "shift")
    ]
    assert len(figure.axes) == 4  # With a strip of pictures above each panel.
    assert [len(axis.containers[0][0].get_xdata()) for axis in panels] == [2, 3]
    written = texts(figure)
    assert "bars: 95% intervals, at most ±0.059; n = 1 run each" in written
    narrow = copy.deepcopy(record)
    for case in narrow["cases"]:
        case["standard_error"] = 0.004
    assert "±0.008, smaller than the dots" in texts(draw_noise(narrow))


def drawn_maps(values, monkeypatch, tmp_path):
    """Returns the figure of two convolutions that both have these maps."""
    figures = []
    monkeypatch.setattr(
        feature_maps_plot.output,
        "write_figure",
        lambda *given: figures.append(given),
    )
    found = {"input": np.zeros((1, 24, 24, 3)), "conv1": values, "conv2": values}
    feature_maps_plot.plot_maps(EXAMPLES[0], found, 64, tmp_path / "maps.png")
    [(figure, _)] = figures
    check(figure)
    return figure


def test_feature_maps_are_large_and_the_strongest_first(monkeypatch, tmp_path):
    values = np.random.default_rng(0).random((1, 12, 12, 64))
    values[..., 5] += 9
    monkeypatch.setattr(feature_maps_plot, "MOST_ROWS", 6)
    figure = drawn_maps(values, monkeypatch, tmp_path)
    axes = [axis for axis in figure.axes if axis.get_title().startswith("conv")]
    assert [axis.get_title() for axis in axes] == [
        f"{name}: 24 of 64 maps of 12\N{MULTIPLICATION SIGN}12, strongest first"
        for name in ("conv1", "conv2")
    ]
    # At the 110 dots per inch at which figures are written.
    width = axes[0].get_window_extent().width / figure.dpi * 110
    assert width / feature_maps_plot.COLUMNS > 90
    first = axes[0].images[0].get_array()[:24:2, :24:2]
    np.testing.assert_array_equal(first, values[0, ..., 5])


def test_maps_of_the_tutorials_network_fit_a_tall_screen(monkeypatch, tmp_path):
    values = np.random.default_rng(0).random((1, 12, 12, 64))
    figure = drawn_maps(values, monkeypatch, tmp_path)
    assert figure.get_figheight() * 110 < 1400


def test_sizes_are_written_with_the_sign_of_multiplication():
    sign = "\N{MULTIPLICATION SIGN}"
    assert plots.times("a 24x24 axis, 1x-2") == f"a 24{sign}24 axis, 1{sign}-2"
    assert plots.times("x 3x max2x") == "x 3x max2x"


def test_a_picture_is_drawn_again_without_measuring(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(study(("all", 0, 0.5))))

    def measure(argv: list[str]) -> None:
        raise AssertionError

    def run() -> None:
        common.run(measure, lambda: None, augmentation.draw)

    said = call(run, f"--redraw={path}")
    assert said == f"drew {tmp_path / 'study.png'}\n"
    assert (tmp_path / "study.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("{", "is not a result of this experiment"),
        ("{}", "is not a result of this experiment"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(tmp_path, capsys, text, reason):
    path = tmp_path / "study.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as exit_:
        call(
            lambda: common.run(lambda argv: None, lambda: None, augmentation.draw),
            f"--redraw={path}",
        )
    assert exit_.value.code == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: --redraw={path}")
    assert reason in said
    assert not (tmp_path / "study.png").exists()
