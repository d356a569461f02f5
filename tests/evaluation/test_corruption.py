"""Tests the errors on CIFAR-10-C, their table, record and picture."""

import json
import shutil

import jax
import numpy as np
import pytest
import robustness_files as files
from helpers import files_of
from PIL import Image

from cifar_jax import (
    Config,
    Dataset,
    RunError,
    Split,
    Trained,
    UserError,
    build_program,
    eval_step,
    init_state,
)
from cifar_jax.data.cifar import robustness
from cifar_jax.data.cifar.cifar10 import LABELS
from cifar_jax.evaluation import corruption, report
from cifar_jax.training import trained

SUBJECT = report.Subject(
    run="runs/$x_1$",
    step=1000,
    parameters="averaged",
    split="cifar10-c",
    examples_in_split=95 * 60,
    class_names=LABELS.class_names,
    data_source="CIFAR-10-C, from a test",
    data_fingerprint="5f7b" * 16,
    notices=("warning: not trained on official CIFAR-10",),
    time="2026-11-23 04:47:19.820479",
)


@pytest.fixture(scope="module")
def network() -> Trained:
    """Returns an untrained network."""
    split = Split(files.images(20, seed=3), np.arange(20, dtype=np.int32) % 10)
    dataset = Dataset.create("cifar10", split, split, class_names=LABELS.class_names)
    program = build_program(Config(model="small"), num_classes=10)
    state = init_state(program, jax.random.key(0), split.images)
    return trained.from_state(program, state, dataset)


@pytest.fixture
def images(tmp_path, monkeypatch) -> robustness.CorruptedImages:
    files.expect_few_images(monkeypatch)
    files.write_archive(tmp_path)
    return robustness.open_cifar10_c(tmp_path)


@pytest.fixture(scope="module")
def errors():
    """Returns errors that differ from each other and grow with the severity."""
    return np.linspace(0.01, 0.95, 95).reshape(19, 5)


@pytest.fixture(scope="module")
def mistakes(network) -> list[list[bool]]:
    """Returns whether each image of each corruption is classified wrongly."""
    arrays = files.cifar10_c()
    labels = arrays.pop("labels")
    found = []
    for pixels in arrays.values():
        logits = eval_step(
            network.variables,
            pixels,
            network.statistics,
            model=network.model,
            preprocessing=network.preprocessing,
        )
        found.append(
            [int(np.argmax(x)) != y for x, y in zip(logits, labels, strict=True)]
        )
    return found


@pytest.mark.parametrize(("count", "batch_size"), [(1, 80), (4, 4), (files.IMAGES, 4)])
def test_errors_are_those_of_a_plain_loop(
    network, mistakes, images, count, batch_size, capsys
):
    errors, _ = corruption.evaluate(network, images, count, batch_size)
    # No progress is shown where there is no terminal.
    assert capsys.readouterr() == ("", "")
    starts = range(0, len(mistakes[0]), files.IMAGES)
    expected = [
        [sum(wrong[i : i + count]) / count for i in starts] for wrong in mistakes
    ]
    assert len({tuple(row) for row in expected}) > 3 or count == 1
    np.testing.assert_allclose(errors, expected, atol=1e-12)


def test_the_network_is_compiled_once(network, images):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        # A shape that no other test has compiled.
        corruption.evaluate(network, images, 5, batch_size=3)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert 1 <= len(compiled) < 5  # not 95 times


def test_the_fingerprint_tells_images_apart(network, images):
    _, whole = corruption.evaluate(network, images, files.IMAGES, 4)
    assert corruption.evaluate(network, images, files.IMAGES, 80)[1] == whole
    assert corruption.evaluate(network, images, 4, 4)[1] != whole
    path = images.pixels["saturate"].path
    contents = bytearray(path.read_bytes())
    contents[images.pixels["saturate"].offset] ^= 1
    path.write_bytes(contents)
    assert corruption.evaluate(network, images, files.IMAGES, 4)[1] != whole


def test_means_are_over_the_benchmarks_15_and_over_all_19(errors):
    first, every = [float(np.mean(errors[:count])) for count in (15, 19)]
    assert corruption.means(errors) == {
        "mean_corruption_error_15": pytest.approx(first),
        "mean_corruption_error_19": pytest.approx(every),
    }
    assert robustness.CORRUPTIONS[:15] == robustness.BENCHMARK
    assert corruption.headline(errors) == (
        f"mean corruption error = {100 * first:.1f}% over the benchmark's 15 "
        f"corruptions, {100 * every:.1f}% over all 19"
    )


def test_scalars_have_every_error_and_mean(errors):
    scalars = corruption.scalars(errors)
    assert len(scalars) == 2 + 19 + 95
    assert scalars["fog/3"] == errors[files.CORRUPTIONS.index("fog"), 2]
    assert scalars["saturate"] == pytest.approx(errors[18].mean())


def test_the_table_has_a_row_per_corruption_and_the_means(errors):
    head, *lines = corruption.table(errors).splitlines()
    assert head.split()[-6:] == ["1", "2", "3", "4", "5", "mean"]
    assert len({len(line) for line in (head, *lines)}) == 1
    assert max(map(len, lines)) < 80
    names = [line[:22].strip() for line in lines]
    benchmark, extra = files.CORRUPTIONS[:15], files.CORRUPTIONS[15:]
    assert names == [*benchmark, "mean of these 15", *extra, "mean of all 19"]
    values = {
        name: [float(x) for x in line[22:].split()]
        for name, line in zip(names, lines, strict=True)
    }
    for name, row in zip(files.CORRUPTIONS, errors, strict=True):
        np.testing.assert_allclose(values[name], 100 * np.append(row, row.mean()), 0.06)
    for name, count in (("mean of these 15", 15), ("mean of all 19", 19)):
        mean = errors[:count].mean(axis=0)
        np.testing.assert_allclose(
            values[name], 100 * np.append(mean, mean.mean()), atol=0.051
        )


def test_errors_of_100_percent_fit_into_the_table():
    *_, last = corruption.table(np.ones((19, 5))).splitlines()
    assert last.split()[-6:] == ["100.0"] * 6


@pytest.fixture(scope="module")
def written(errors, tmp_path_factory):
    """Returns the folder of a report."""
    folder = tmp_path_factory.mktemp("report") / "a" / "b"
    report.check(folder, corruption.FILES)
    path = corruption.write(folder, SUBJECT, errors, count=60)
    assert path == folder / "corruptions.png"
    return folder


def test_the_report_has_the_numbers_as_strict_json_and_a_picture(errors, written):
    assert sorted(p.name for p in written.iterdir()) == sorted(corruption.FILES)
    record = json.loads(
        (written / "corruptions.json").read_text(), parse_constant=pytest.fail
    )
    assert record["errors"] == dict(
        zip(files.CORRUPTIONS, errors.tolist(), strict=True)
    )
    assert record["num_images"] == record["examples_in_split"] == 95 * 60
    assert record["mean_corruption_error_15"] == pytest.approx(errors[:15].mean())
    assert record["severities"] == [1, 2, 3, 4, 5]
    assert record["data_fingerprint"] == SUBJECT.data_fingerprint
    picture = Image.open(written / "corruptions.png")
    assert picture.format == "PNG"
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 9


def test_the_same_errors_give_the_same_bytes(errors, written, tmp_path):
    corruption.write(tmp_path, SUBJECT, errors, count=60)
    assert files_of(tmp_path) == files_of(written)


@pytest.mark.parametrize("name", ["corruptions.png", "corruptions.json"])
def test_only_earlier_reports_are_overwritten(written, tmp_path, name):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    report.check(tmp_path, corruption.FILES)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"{name} was not written by --report"):
        report.check(tmp_path, corruption.FILES)
    report.check(tmp_path)  # The report of a split has other files.


def test_a_report_that_cannot_be_written_at_the_end(errors, tmp_path):
    (tmp_path / "gone").write_text("")
    with pytest.raises(RunError, match=r"cannot write the report to .*: File exists"):
        corruption.write(tmp_path / "gone", SUBJECT, errors, count=60)
