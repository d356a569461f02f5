"""Tests the course's worked examples, tables of layers, and the contact sheet."""

import json
import re

import numpy as np
import pytest
from run_experiments import ROOT, call_experiment

from cifar_jax import UserError, load_data, models
from cifar_jax.data.distortions import CHOICES, operations
from experiments.course import augmentations, contact_sheet, convolution, layers


def by_hand(image, top, left, height, width):
    """Returns the sum under a window of ones that may extend beyond the image."""
    return sum(
        image[row][column]
        for row in range(max(top, 0), min(top + height, len(image)))
        for column in range(max(left, 0), min(left + width, len(image[0])))
    )


def test_worked_examples_match_a_calculation_by_hand():
    image = convolution.IMAGE.astype(int).tolist()
    valid, same, strided, largest, mean = convolution.examples()
    expected = [[by_hand(image, i, j, 3, 3) for j in range(3)] for i in range(3)]
    assert valid.output.tolist() == expected
    # The course's answer, and its notation.
    assert expected[0][0] == 6
    products = "1x1 + 1x1 + 1x1 + 1x0 + 1x1 + 1x1 + 1x0 + 1x0 + 1x1 + 0 = 6"
    assert valid.arithmetic == products
    expected = [
        [by_hand(image, i - 1, j - 1, 3, 3) for j in range(5)] for i in range(5)
    ]
    assert same.output.tolist() == expected
    corners = [[by_hand(image, i, j, 3, 3) for j in (0, 3)] for i in (0, 3)]
    assert strided.output.tolist() == corners
    assert largest.output.tolist() == [[2, 6]]
    assert mean.output.tolist() == [[2, 0]]


def test_the_displayed_arithmetic_is_right():
    for example in convolution.examples():
        left, right = example.arithmetic.split(" = ")
        value = eval(re.sub(r"(\d)x(\d)", r"\1*\2", left))
        assert value == float(right) == example.output[example.cell]


def test_every_output_is_computed_from_its_window():
    reduce = {"sum": np.nansum, "max": np.nanmax, "mean": np.nanmean}
    for example in convolution.examples():
        for row, column in np.ndindex(example.output.shape):
            rows = slice(row * example.stride, row * example.stride + example.window[0])
            columns = slice(
                column * example.stride, column * example.stride + example.window[1]
            )
            value = reduce[example.form](example.padded[rows, columns])
            assert example.output[row, column] == value


def test_softmax_of_the_courses_six_classes():
    figures = convolution.classification()
    printed = np.array([0.001, 0.030, 0.620, 0.101, 0.020, 0.219])
    assert printed.sum() == pytest.approx(0.991)
    assert figures["exponentials"] == pytest.approx(printed, rel=1e-5)
    assert figures["softmax"] == pytest.approx(printed / 0.991, rel=1e-5)
    assert figures["targets"] == np.eye(6).tolist()
    assert figures["cross_entropy"] == pytest.approx(-np.log(printed / 0.991), rel=1e-5)


def test_one_hot_codes():
    codes = convolution.one_hot()
    assert codes["sex, by one number"] == {"female": [1], "male": [0]}
    assert codes["sex"] == {"female": [1, 0], "male": [0, 1]}
    assert codes["car"]["pickup"] == [0, 1, 0, 0, 0, 0]
    assert np.array(list(codes["car"].values())).sum() == 6


def test_costs_of_strides():
    costs = convolution.costs_of_strides(repetitions=1)
    assert [(cost["stride"], cost["size"]) for cost in costs] == [
        *((1, 24), (2, 12), (3, 8)),
    ]
    assert costs[0]["multiplications"] == 128 * 24 * 24 * 64 * 64 * 25
    assert costs[0]["multiplications"] == 9 * costs[2]["multiplications"]


def test_the_committed_examples_match_the_code():
    kept = json.loads(
        (ROOT / "experiments/course/results/convolution.json").read_text()
    )
    assert kept["image"] == convolution.IMAGE.tolist()
    assert kept["one_hot"] == convolution.one_hot()
    for example, record in zip(convolution.examples(), kept["examples"], strict=True):
        assert json.loads(json.dumps(example.record())) == record


def rows_of(text: str) -> dict[str, tuple[str, int]]:
    """Returns outputs and parameters by layer, as printed by `layers.summary`."""
    table = [line for line in text.splitlines() if line[:1] == "|"][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {layer: (size, int(count.replace(",", ""))) for layer, size, count in cells}


def test_the_layers_of_vgg16():
    text = layers.summary("vgg16", None, 224)
    rows = rows_of(text)
    assert len(rows) == 13 + 3
    # As in the last lines of Keras's summary.
    assert rows["block5_conv3 (Conv)"] == ("14x14x512", 2_359_808)
    assert rows["fc1 (Dense)"] == ("4096", 102_764_544)
    assert rows["predictions (Dense)"] == ("1000", 4_097_000)
    assert "Total params: 138,357,544\nTrainable params: 138,357,544" in text
    message = "--image_size=31 is too small for --model=vgg16; pass at least 32"
    with pytest.raises(UserError, match=message):
        layers.summary("vgg16", None, 31)


def test_the_layers_of_a_network_that_computes_with_the_batch_last():
    rows = rows_of(layers.summary("cuda_convnet_11pct", None, 24))
    assert [size for size, _ in rows.values()] == [
        *("24x24x64", "12x12x64", "6x6x64", "6x6x32", "10"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(models.MODELS.keys() - {"small", "batch_norm"}))
def test_every_network_has_a_table_of_its_layers(name):
    text = layers.summary(name, None, layers.usual_size(name))
    total, trained, averages = (
        int(line.split()[-1].replace(",", "")) for line in text.splitlines()[-3:]
    )
    rows = rows_of(text)
    assert sum(count for _, count in rows.values()) == total == trained + averages
    # BatchNorm has a mean and a variance for each of its channels.
    norms = [size for layer, (size, _) in rows.items() if "BatchNorm" in layer]
    assert averages == sum(2 * int(size.split("x")[-1]) for size in norms)


@pytest.mark.slow
def test_the_contact_sheet(tmp_path):
    text = call_experiment(
        "course.contact_sheet", "--dataset=digits", f"--results_dir={tmp_path}"
    )
    digits = load_data("digits")
    rows = [line.split("|")[1:4] for line in text.splitlines() if line[:1] == "|"][2:]
    for label, (name, train, test) in enumerate(rows):
        assert name.strip() == digits.class_names[label]
        assert int(train) == (digits.train.labels == label).sum()
        assert int(test) == (digits.test.labels == label).sum()
    figure = contact_sheet.draw(digits, seed=0)
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert len(shown) == 100
    # Each image is one of its row's class.
    for number, image in enumerate(shown):
        of_class = digits.train.images[digits.train.labels == number // 10]
        assert (of_class == image).all(axis=(1, 2, 3)).any()


@pytest.mark.slow
def test_every_distortion_and_operation_is_drawn(tmp_path):
    call_experiment(
        "course.augmentations", "--dataset=digits", f"--results_dir={tmp_path}"
    )
    assert (tmp_path / "augmentations.png").stat().st_size > 10_000
    shown = augmentations.DISTORTIONS + augmentations.MIXTURES
    names = {text.split("(")[0] for text in shown}
    # They look like others, or only choose between others.
    similar = {"center_crop", "alternating_flip", "choice"}
    assert names | similar == set(CHOICES)
    images = augmentations.choose(load_data("digits"), seed=0)
    assert len(images) == augmentations.PER_ROW
    identity = augmentations.transform(images, operations.IDENTITY)
    np.testing.assert_array_equal(identity, images)
    inverted = augmentations.transform(images, operations.INVERT)
    np.testing.assert_array_equal(inverted, 255 - images)


@pytest.mark.slow
def test_convolution_computes_and_draws_and_replaces_no_result(tmp_path, monkeypatch):
    before = (ROOT / "experiments/course/results/convolution.json").stat()
    monkeypatch.chdir(tmp_path)
    text = call_experiment("course.convolution")
    assert (ROOT / "experiments/course/results/convolution.json").stat() == before
    kept = json.loads((tmp_path / "results/convolution.json").read_text())
    assert "1x1 + 1x1 + 1x1 + 1x0 + 1x1 + 1x1 + 1x0 + 1x0 + 1x1 + 0 = 6" in text
    assert "SUV: [0, 0, 1, 0, 0, 0]" in text
    assert len(kept["examples"]) == 5
    for part in ("", "_pooling", "_softmax"):
        picture = tmp_path / "results" / f"convolution{part}.png"
        assert picture.stat().st_size > 10_000
