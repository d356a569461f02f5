"""Tests that an evaluation report's page is complete and agrees with the record."""

import dataclasses
import io
import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from report_files import SUBJECT, Page, content

from cifar_jax import Config, Split
from cifar_jax import eval as eval_command
from cifar_jax.evaluation import comparison, report, report_figures, report_page
from cifar_jax.runs.run_dir import Run


def test_the_page_is_complete_and_needs_no_network(written):
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert "http" not in text
    assert not {"script", "link", "iframe", "b>red", "mind"} & set(page.tags)
    assert "url(" not in text
    assert all(image["alt"] for image in page.images)


def test_the_page_agrees_with_the_record(written):
    record = json.loads((written / "report.json").read_text())
    text = Page((written / "report.html").read_text()).text
    for name in (*SUBJECT.class_names, *SUBJECT.notices, SUBJECT.run, SUBJECT.time):
        assert name in text
    assert "step 1000, averaged parameters" in text
    assert SUBJECT.data_fingerprint in text
    assert f"precision @ 1 = {record['precision_at_1']:.3f}" in text
    assert f"{record['correct']} of 60 images are classified correctly" in text
    assert f"here {record['calibration']['error']:.3f}" in text
    assert "None" not in text
    assert "nan" not in text
    for mistake in record["mistakes"]:
        caption = "{label}, predicted as {prediction} ({probability:.1%})image {index}"
        assert caption.format(**mistake) in text
    for answer in record["right_answers"]:
        assert "{label} ({probability:.1%})image {index}".format(**answer) in text


def test_pictures_of_a_folder_have_the_names_of_their_files(answers, tmp_path):
    split, logits = answers
    names = [f"blue & <green>/{i}.jpg" for i in range(60)]
    report.write(tmp_path, SUBJECT, dataclasses.replace(split, names=names), logits)
    record = json.loads((tmp_path / "report.json").read_text())
    page = Page((tmp_path / "report.html").read_text())
    shown = record["right_answers"] + record["mistakes"]
    assert shown
    for answer in shown:
        assert answer["file"] == names[answer["index"]]
        assert f"({answer['probability']:.1%}){answer['file']}" in page.text
    assert any(image["alt"].endswith(shown[0]["file"]) for image in page.images)
    assert not re.search(r"image \d", page.text)


def test_the_page_says_what_guessing_would_reach(written, answers, tmp_path):
    text = Page((written / "report.html").read_text()).text
    share = np.bincount(answers[0].labels).max() / 60
    assert "Guessing would get 0.333, always predicting " in text
    assert f" {share:.3f}." in text
    assert "All images are predicted as" not in text
    one = np.tile([0, 0, 1.0], (60, 1))
    report.write(tmp_path, SUBJECT, answers[0], one)
    page = Page((tmp_path / "report.html").read_text())
    assert "All images are predicted as \"never'." in page.text
    assert json.loads((tmp_path / "report.json").read_text())["balanced_accuracy"] == 0


def test_the_tables_agree_with_the_record(written):
    record = json.loads((written / "report.json").read_text())
    rows = Page((written / "report.html").read_text()).rows

    def cells(*values):
        """Formats undefined values, fractions, names and counts as the page does."""
        return [
            "–" if x is None else f"{x:.3f}" if isinstance(x, float) else str(x)  # noqa: RUF001
            for x in values
        ]

    for scores in record["classes"]:
        names = ("name", "support", "precision", "recall", "f1")
        assert cells(*map(scores.get, names)) in rows
    for name, counts in zip(
        SUBJECT.class_names, record["confusion_matrix"], strict=True
    ):
        assert cells(name, *counts) in rows
    bins = record["calibration"]
    for i in range(15):
        shown = cells(
            *bins["edges"][i : i + 2],
            *(bins[name][i] for name in ("counts", "confidence", "accuracy")),
        )
        assert shown in rows
    loss = ["mean negative log-likelihood", f"{record['negative_log_likelihood']:.3f}"]
    assert loss in rows


def test_precision_at_5_is_left_out_where_it_is_always_1(written, tmp_path):
    record = json.loads((written / "report.json").read_text())
    assert record["precision_at_5"] is None
    assert "precision @ 5" not in (written / "report.html").read_text()
    for count in (5, 6):
        labels = np.arange(count)
        subject = dataclasses.replace(SUBJECT, class_names=tuple("abcdef"[:count]))
        logits = -np.tile(np.arange(count, dtype=np.float64), (count, 1))
        record = report.contents(subject, logits, labels)
        assert record["precision_at_5"] == (None if count == 5 else 5 / 6)
        pictures = dict.fromkeys(range(count), np.zeros((32, 32, 3), np.uint8))
        shown = ["precision @ 5", "0.833"] in Page(
            report_page.page(record, pictures)
        ).rows
        assert shown == (count == 6)


def test_the_pictures_show_right_answers_and_mistakes(written, answers):
    split, logits = answers
    record = json.loads((written / "report.json").read_text())
    _, *pictures = Page((written / "report.html").read_text()).images
    right, mistakes = record["right_answers"], record["mistakes"]
    count = int((logits.argmax(axis=1) == split.labels).sum())
    assert (len(right), len(mistakes)) == (min(count, 20), min(60 - count, 20))
    for picture, answer in zip(pictures, right + mistakes, strict=True):
        i = answer["index"]
        pixels = np.asarray(Image.open(io.BytesIO(content(picture, "png"))))
        np.testing.assert_array_equal(pixels, split.images[i])
        assert answer["label"] == SUBJECT.class_names[split.labels[i]]
        assert answer["prediction"] == SUBJECT.class_names[logits[i].argmax()]
        p = np.exp(logits[i]) / np.exp(logits[i]).sum()
        assert answer["probability"] == pytest.approx(p.max())
        assert answer["probability_of_label"] == pytest.approx(p[split.labels[i]])
    assert all(answer["label"] == answer["prediction"] for answer in right)
    assert all(answer["label"] != answer["prediction"] for answer in mistakes)
    sure = [mistake["probability"] for mistake in mistakes]
    assert sure == sorted(sure, reverse=True)


def of_many_classes(count):
    labels = np.arange(count, dtype=np.int32)
    guesses = np.where(labels < 4, (labels + 1) % 2, labels)
    names = tuple(f"class {label}" for label in labels)
    subject = dataclasses.replace(SUBJECT, class_names=names)
    return report.contents(subject, np.eye(count)[guesses], labels)


def test_many_classes_have_a_list_of_confusions_instead_of_a_matrix():
    record = of_many_classes(40)
    assert [tuple(confusion.values()) for confusion in record["confusions"]] == [
        ("class 0", "class 1", 1),
        ("class 1", "class 0", 1),
        ("class 2", "class 1", 1),
        ("class 3", "class 0", 1),
    ]
    assert np.shape(record["confusion_matrix"]) == (40, 40)
    pictures = dict.fromkeys(range(40), np.zeros((32, 32, 3), np.uint8))
    text = report_page.page(record, pictures)
    assert "Most frequent confusions" in text
    assert "Confusion matrix" not in text
    assert of_many_classes(1001)["confusion_matrix"] is None


def history(losses: int, precisions: dict[str, list[float]]) -> comparison.History:
    """Returns what a run has left on disk, with a summary and an evaluation a step."""
    made = Run(
        path=pathlib.Path("run"),
        config=Config(train_dir=None),
        class_names=SUBJECT.class_names,
        image_shape=(32, 32, 3),
        data_source=SUBJECT.data_source,
        data_fingerprint=SUBJECT.data_fingerprint,
    )
    summaries = [
        {"step": step, "total_loss": 0.1, "global_step/sec": 1.0}
        for step in range(losses)
    ]
    evaluations = {
        split: [
            {"step": step, "precision_at_1": value, "num_examples": 60}
            for step, value in enumerate(precisions.get(split, []))
        ]
        for split in comparison.SPLITS
    }
    return comparison.History(made, None, summaries, evaluations)


def test_the_curves_of_the_training_are_on_the_page(answers, tmp_path):
    split, logits = answers
    known = history(1200, {"test": [0.1, 0.5], "validation": [0.2]})
    page = report.write(tmp_path, SUBJECT, split, logits, known).read_text()
    record = json.loads((tmp_path / "report.json").read_text())["training"]
    assert record["precision_at_1"] == {
        "test": [[0, 0.1], [1, 0.5]],
        "validation": [[0, 0.2]],
    }
    assert [step for step, _ in record["loss"]] == list(range(1200))
    # The average began at 0, which is corrected for.
    assert record["loss"][0] == [0, pytest.approx(1.0)]
    curves, *_ = Page(page).images
    assert "Training loss" in curves["alt"]
    drawn = content(curves, "svg+xml").decode()
    for words in ("training loss", "precision @ 1", "test images", "validation images"):
        assert f"<!-- {words} -->" in drawn
    # The axis of the precision ends at 1, however low it is.
    assert "<!-- 1.0 -->" in drawn


def test_the_curve_of_the_loss_is_that_of_the_log(answers):
    def curve(known):
        split, logits = answers
        return report.contents(SUBJECT, logits, split.labels, known)["training"]["loss"]

    log = [{"step": 10 * i, "total_loss_raw": 5.0 - i % 2} for i in range(401)]
    known = dataclasses.replace(history(3, {}), log=log)
    found = curve(known)
    # Means of three lines each; the last one of two.
    assert len(found) == 134
    assert found[0] == (20, pytest.approx(14 / 3))
    assert found[-1] == (4000, 4.5)
    short = curve(dataclasses.replace(known, log=log[:23]))
    assert short == [(one["step"], one["total_loss_raw"]) for one in log[:23]]


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        (history(1, {}), ["training loss"]),
        (history(0, {"test": [0.1]}), ["precision @ 1"]),
        (history(0, {}), []),
    ],
)
def test_only_curves_that_are_known_are_drawn(answers, known, shown):
    split, logits = answers
    record = report.contents(SUBJECT, logits, split.labels, known)
    text = report_page.page(record, dict(enumerate(split.images)))
    assert ("<h2>Training</h2>" in text) == bool(shown)
    if shown:
        drawn = content(Page(text).images[0], "svg+xml").decode()
        words = ("training loss", "precision @ 1")
        assert [word for word in words if f"<!-- {word} -->" in drawn] == shown


def test_a_damaged_log_of_the_training_costs_only_its_curves(tmp_path, capsys):
    made = dataclasses.replace(history(0, {}).run, path=tmp_path)
    assert eval_command.read_history(made).training == []
    (tmp_path / "train.jsonl").write_text('{"step": 0}\n')
    assert eval_command.read_history(made) is None
    assert "train.jsonl is damaged" in capsys.readouterr().err


def test_numbers_can_be_read_on_every_cell_of_the_matrix():
    """Tests the contrast of text on cells in both color schemes, after WCAG 2.1."""

    def luminance(color: np.ndarray) -> float:
        linear = np.where(
            color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def parsed(name: str, scheme: str) -> np.ndarray:
        value = re.search(rf"--{name}: ([^;]+);", scheme)[1]
        if value.startswith("#"):
            digits = value[1:] if len(value) == 7 else "".join(2 * x for x in value[1:])
            return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        return np.array(value.split(), float) / 255

    for scheme in re.findall(r":root \{([^}]+)\}", report_page.STYLE):
        heat, paper = parsed("heat", scheme), parsed("paper", scheme)
        for count in range(101):
            cell = report_page.color_cell(count, 100)
            kind = "strong" if 'class="strong"' in cell else "weak"
            ink = parsed(f"on-{kind}", scheme)
            share = float(re.search(r"--share:(\S+)\"", cell)[1])
            lights = luminance(ink), luminance(share * heat + (1 - share) * paper)
            assert (max(lights) + 0.05) / (min(lights) + 0.05) >= 4.5


def test_the_diagram_is_a_picture(written):
    diagram, *_ = Page((written / "report.html").read_text()).images
    root = ElementTree.fromstring(content(diagram, "svg+xml"))
    assert root.tag.endswith("svg")
    assert "Reliability" in diagram["alt"]
    assert "<!-- confidence (n = 60 images) -->" in content(diagram, "svg+xml").decode()


def test_dark_screens_show_the_figures_in_light_ink_on_the_page_itself(written):
    page = Page((written / "report.html").read_text())
    [dark] = page.dark
    assert dark["media"] == "screen and (prefers-color-scheme: dark)"
    for image, ink, other in (
        (dark, report_figures.DARK.ink, report_figures.LIGHT.ink),
        (page.images[0], report_figures.LIGHT.ink, report_figures.DARK.ink),
    ):
        drawn = content(image, "svg+xml").decode()
        assert ink in drawn
        assert other not in drawn
        assert "#ffffff" not in drawn
        assert "#000000" not in drawn


def test_a_network_that_is_always_right(tmp_path):
    split = Split(np.zeros((4, 32, 32, 3), np.uint8), np.array([0, 1, 2, 0]))
    logits = 9 * np.eye(3, dtype=np.float32)[split.labels]
    page = report.write(tmp_path, SUBJECT, split, logits).read_text()
    assert "There are none." in Page(page).text


def test_ten_thousand_images_make_a_small_page(tmp_path):
    """Tests the worst case: ten classes and pictures of noise, which compress badly."""
    random = np.random.default_rng(1)
    images = np.broadcast_to(
        random.integers(0, 256, (32, 32, 3), np.uint8), (10000, 32, 32, 3)
    )
    split = Split(images, random.integers(0, 10, 10000))
    logits = random.normal(size=(10000, 10))
    subject = dataclasses.replace(SUBJECT, class_names=tuple("0123456789"))
    page = report.write(tmp_path, subject, split, logits)
    assert page.stat().st_size < 500_000
