"""Tests the course experiments on trained networks: feature maps, corrupted images."""

import csv
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_experiments import call_experiment

from cifar_jax import Config, UserError, fit, load_data
from experiments.course import feature_maps, noise
from experiments.course.corruptions import CORRUPTIONS, Corruption

# Some layers of the tutorial's network, and their shapes.
LAYERS = {"conv1": [24, 24, 64], "conv2": [12, 12, 64]}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_data("digits").test.images[:40]


@pytest.fixture(params=CORRUPTIONS)
def corruption(request) -> Corruption:
    return CORRUPTIONS[request.param]


@pytest.mark.parametrize("level", range(6))
def test_corruptions_return_bytes_and_do_not_change_their_argument(
    corruption, images, level
):
    before = images.copy()
    spoiled = corruption.at(images, level)
    assert spoiled.dtype == np.uint8
    assert spoiled.shape == images.shape
    np.testing.assert_array_equal(images, before)
    if level == 0:
        np.testing.assert_array_equal(spoiled, images)


def test_corruptions_are_the_same_every_time(corruption, images):
    np.testing.assert_array_equal(corruption.at(images, 3), corruption.at(images, 3))
    # The number of images does not matter either.
    np.testing.assert_array_equal(
        corruption.at(images[:5], 3), corruption.at(images, 3)[:5]
    )


@pytest.mark.parametrize("name", ["noise", "occlusion"])
def test_another_seed_corrupts_differently(name, images):
    of = CORRUPTIONS[name]
    assert (of.at(images, 3, seed=0) != of.at(images, 3, seed=1)).any()


def test_stronger_corruptions_are_further_from_the_image(corruption):
    rng = np.random.default_rng(1)
    # Slopes, which a shift changes by its length, and texture for the others to change.
    slopes = 2 * np.add.outer(np.arange(32), np.arange(32))[None, :, :, None]
    images = (50 + slopes + rng.integers(-10, 11, (40, 32, 32, 3))).astype(np.uint8)
    distances = [
        np.mean((corruption.at(images, level).astype(float) - images) ** 2)
        for level in range(6)
    ]
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()


@pytest.mark.parametrize(
    ("name", "none"),
    [("noise", 0), ("blur", 0), ("contrast", 1), ("occlusion", 0), ("shift", 0)],
)
def test_the_neutral_strength_changes_nothing(name, none, images):
    spoiled = CORRUPTIONS[name].apply(images, none, np.random.default_rng(0))
    np.testing.assert_array_equal(spoiled, images)


def test_a_shift_moves_the_picture_and_repeats_its_border(images):
    spoiled = CORRUPTIONS["shift"].apply(images, 2, np.random.default_rng(0))
    seen = set()
    for before, after in zip(images, spoiled, strict=True):
        framed = np.pad(before, [(2, 2), (2, 2), (0, 0)], mode="edge")
        size = len(before)
        starts = {"up": (4, 2), "down": (0, 2), "left": (2, 4), "right": (2, 0)}
        matches = [
            name
            for name, (top, left) in starts.items()
            if (framed[top : top + size, left : left + size] == after).all()
        ]
        assert matches
        seen.update(matches)
    assert seen == {"up", "down", "left", "right"}


def test_noise_has_the_requested_deviation():
    gray = np.full((20, 32, 32, 3), 127, np.uint8)
    spoiled = CORRUPTIONS["noise"].apply(gray, 10, np.random.default_rng(0))
    assert spoiled.std() == pytest.approx(10, rel=0.02)
    assert spoiled.mean() == pytest.approx(127, abs=0.1)


def test_contrast_keeps_the_mean_and_shrinks_the_deviation(images):
    spoiled = CORRUPTIONS["contrast"].apply(images, 0.5, np.random.default_rng(0))
    for before, after in zip(images, spoiled, strict=True):
        assert after.mean() == pytest.approx(before.mean(), abs=0.5)
        assert after.std() == pytest.approx(before.std() / 2, rel=0.02)


@given(side=st.integers(1, 32), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_the_whole_square_lies_in_the_image(side, seed):
    black = np.zeros((3, 32, 32, 3), np.uint8)
    random = np.random.default_rng(seed)
    spoiled = CORRUPTIONS["occlusion"].apply(black, side, random)
    for image in spoiled:
        rows, columns = np.nonzero(image[..., 0])
        assert len(rows) == side**2
        assert np.ptp(rows) == np.ptp(columns) == side - 1


def test_the_fall_in_precision_is_computed_from_pairs():
    clean = np.array([True] * 8 + [False] * 2)
    spoiled = np.array([True] * 6 + [False] * 4)
    figures = noise.figures(clean, spoiled)
    assert figures["precision"] == 0.6
    assert figures["standard_error"] == pytest.approx((0.6 * 0.4 / 10) ** 0.5)
    assert figures["fall"] == pytest.approx(0.2)
    assert figures["fall_standard_error"] == pytest.approx((0.2 * 0.8 / 10) ** 0.5)
    assert noise.figures(clean, clean)["fall_standard_error"] == 0


def test_runs_are_named_as_requested_or_after_their_folder(tmp_path):
    runs = noise.runs_by_name([f"a={tmp_path}/x", f"{tmp_path}/b"])
    assert runs == {"a": tmp_path / "x", "b": tmp_path / "b"}
    with pytest.raises(UserError, match="two runs are named 'a'"):
        noise.runs_by_name(["a=x", "y/a"])


def test_unfinished_cases_are_resumed_under_the_same_settings(tmp_path):
    case = {"network": "a", "corruption": "blur", "strength": 1, "precision": 0.5}
    noise.Unfinished(tmp_path / "f", {"seed": 0}).add(case)
    again = noise.Unfinished(tmp_path / "f", {"seed": 0})
    assert again.cases == [case]
    assert noise.select(again.cases, network="a", corruption="blur") == [case]
    assert noise.select(again.cases, network="b", corruption="blur") == []
    assert noise.Unfinished(tmp_path / "f", {"seed": 1}).cases == []


def test_change_is_relative_to_the_first():
    values = np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])
    np.testing.assert_allclose(feature_maps.change(values), [0, 1, 1])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """Returns the folder of a run of a few steps on digits."""
    folder = tmp_path_factory.mktemp("run") / "digits"
    config = Config(max_steps=3, batch_size=8, train_dir=str(folder))
    fit(config, load_data("digits"), log=lambda line: None)
    return folder


@pytest.mark.slow
def test_noise_evaluates_and_draws(tmp_path, run):
    text = call_experiment(
        "course.noise",
        *("--quick", "--dataset=digits", f"--checkpoint_dirs=ours={run}"),
        f"--results_dir={tmp_path}",
    )
    kept = json.loads((tmp_path / "noise.json").read_text())
    assert len(kept["cases"]) == 31
    assert kept["images"] == noise.QUICK_IMAGES
    assert kept["networks"]["ours"]["step"] == 3
    assert all(0 <= case["precision"] <= 1 for case in kept["cases"])
    with (tmp_path / "noise.csv").open() as file:
        rows = list(csv.DictReader(file))
    precision = [case["precision"] for case in kept["cases"]]
    assert [float(row["precision"]) for row in rows] == precision
    assert "| noise      |        5 |" in text
    assert (tmp_path / "noise.png").stat().st_size > 10_000
    assert not (tmp_path / "noise.unfinished.json").exists()
    assert str(run) not in json.dumps(kept)


def test_a_network_without_feature_maps_is_refused(finished_run, capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        call_experiment(
            "course.feature_maps",
            *("--quick", "--dataset=digits", f"--checkpoint_dir={finished_run}"),
            f"--results_dir={tmp_path}",
        )
    assert exit_.value.code == 2
    assert "has no feature maps to draw; pass" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_feature_maps_are_drawn(tmp_path, run):
    text = call_experiment(
        "course.feature_maps",
        *("--quick", "--dataset=digits", f"--checkpoint_dir={run}"),
        f"--results_dir={tmp_path}",
    )
    kept = json.loads((tmp_path / "feature_maps.json").read_text())
    layers = {name: layer["shape"] for name, layer in kept["layers"].items()}
    assert layers.items() >= LAYERS.items()
    assert next(iter(layers)) == "input"
    # Doubling the noise changes every layer more.
    for layer in kept["layers"].values():
        change = [layer["change"][f"sigma {sigma}"] for sigma in (5, 10, 20, 40)]
        assert change == sorted(change)
    assert "pixels shuffled" in text
    for part in ("", "_kernels", "_noise"):
        assert (tmp_path / f"feature_maps{part}.png").stat().st_size > 5_000
    assert str(run) not in json.dumps(kept)
