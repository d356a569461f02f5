"""Tests the comparison of runs, its table, notes and plot, on made-up runs."""

import dataclasses
import json
import pathlib

import pytest

from cifar_jax import Config, Run, UserError
from cifar_jax.evaluation import comparison, comparison_plot, comparison_table
from cifar_jax.evaluation.comparison import History
from cifar_jax.writers import Summary, Writers


def run(name: str, pixels: str = "5f7b", **settings) -> Run:
    config = Config(train_dir=name, dataset="cifar10", **settings)
    path = pathlib.Path(name)
    source = f"archive {pixels}"
    return Run(path, config, ("cat", "dog"), (32, 32, 3), source, pixels * 16)


def training(speeds: dict[int, float]) -> list[dict]:
    """Returns summaries with a speed, in steps a second, for each step."""
    return [
        {"step": step, "total_loss": 4.0, "global_step/sec": speed}
        for step, speed in speeds.items()
    ]


def evaluations(precisions: dict[int, float]) -> list[dict]:
    return [
        {"step": step, "precision_at_1": p, "num_examples": 10_000}
        for step, p in precisions.items()
    ]


def history(made: Run, saved=None, speeds=None, test=None, validation=None) -> History:
    found = {
        "test": evaluations(test or {}),
        "validation": evaluations(validation or {}),
    }
    return History(made, saved, training(speeds or {}), found)


SPEEDS = {0: 1.0, 100: 10.0, 200: 5.0, 300: 20.0}
PLAIN = history(run("runs/plain", max_steps=400), 400, SPEEDS, {200: 0.6, 400: 0.59})
FAST = history(
    run("runs/fast", max_steps=400, learning_rate=0.2, distortions="flip"),
    400,
    SPEEDS,
    {200: 0.5, 400: 0.7},
    {400: 0.65},
)
FOREIGN = history(run("$x_1", "ab12", max_steps=400), 301, SPEEDS)
UNSAVED = history(run("_new"))

TABLE = """\
                      plain            fast
distortions           crop, flip,      flip
                      brightness(63),
                      contrast(0.8)
learning_rate         0.1              0.2
steps                 400              400
  of max_steps        400              400
minutes trained       0.7              0.7
examples/s            1,280            1,280
test precision        0.590            0.700
  95% interval        0.580-0.600      0.691-0.709
  at step             400              400
best on test          0.600            0.700
  95% interval        0.590-0.610      0.691-0.709
  at step             200              400
validation precision  -                0.650
  95% interval        -                0.641-0.659
  at step             -                400"""


def test_other_metrics_of_the_evaluations_are_rows():
    measured = dataclasses.replace(
        PLAIN,
        evaluations=PLAIN.evaluations
        | {
            "test": [
                {
                    "step": 400,
                    "time": 1.5,
                    "precision_at_1": 0.6,
                    "num_examples": 10_000,
                    "examples_in_split": 10_000,
                    "top_5": 0.95125,
                    "nll": None,
                }
            ]
        },
    )
    records = comparison.compare([measured, FAST])
    assert records[0]["evaluations"]["test"]["last"]["metrics"] == {"top_5": 0.95125}
    lines = comparison_table.table(records, 60).splitlines()
    assert "  top_5               0.9513           -" in lines


def test_the_table_has_what_differs_and_what_came_out():
    assert comparison_table.table(comparison.compare([PLAIN, FAST]), 60) == TABLE


def test_one_run_is_summarized():
    record = comparison.compare([FOREIGN])
    assert comparison_table.table(record, 80) == (
        "                 $x_1\n"
        "steps            301\n"
        "  of max_steps   400\n"
        "minutes trained  0.6\n"
        "examples/s       1,280\n"
        "test precision   -\n"
        "  95% interval   -\n"
        "  at step        -"
    )


def test_other_pixels_are_marked_and_explained():
    records = comparison.compare([PLAIN, FOREIGN])
    lines = comparison_table.table(records, 80).splitlines()
    assert lines[0].split() == ["plain", "$x_1", "*"]
    assert lines[1].split() == ["pixels", "(SHA-256)", "5f7b5f7b5f7b", "ab12ab12ab12"]
    notes = " ".join(comparison_table.notes(records, 80).split())
    assert (
        "$x_1 *: trained on different pixels than plain, so their precisions are not "
        "comparable: archive ab12; plain: archive 5f7b"
    ) in notes
    assert "different pixels" not in comparison_table.notes(
        comparison.compare([PLAIN, FAST]), 80
    )


def test_an_evaluation_that_is_missing_comes_with_its_command():
    old = history(run("it's old"), 300, SPEEDS, {200: 0.5})
    notes = comparison_table.notes(comparison.compare([PLAIN, old, UNSAVED]), 60)
    assert notes.splitlines()[-3:] == [
        "it's old: not evaluated at step 300:",
        """  python -m cifar_jax.eval '--checkpoint_dir=it'"'"'s old'""",
        "_new: has no checkpoint to evaluate",
    ]
    assert "optimistic" in notes
    once = comparison.compare([history(run("once"), 300, SPEEDS, {300: 0.5})])
    notes = comparison_table.notes(once, 60)
    assert "optimistic" not in notes
    assert "not evaluated" not in notes
    assert "best on test" not in comparison_table.table(once, 60)


def test_many_runs_follow_below_each_other():
    many = [history(run(f"{i}-{'x' * 40}", seed=i), 9, SPEEDS) for i in range(8)]
    for width in (80, 100, 120):
        blocks = comparison_table.table(comparison.compare(many), width).split("\n\n")
        assert len(blocks) == 2
        lines = "\n".join(blocks).splitlines()
        assert max(map(len, lines)) <= width
        assert [line.split()[0] for line in lines].count("seed") == 2


def test_every_step_counts_once_at_the_speed_of_its_time():
    (found,) = comparison.compare([PLAIN])
    # The steps after the last summary are as fast as those before it.
    expected = 1 / 1 + 100 / 10 + 100 / 5 + 199 / 20
    assert found["minutes"] == pytest.approx(expected / 60)
    assert found["examples_per_second"] == 128 * 10
    assert found["steps"] == 400


def test_a_run_of_one_summary_is_timed_by_its_log():
    short = history(run("short"), 20, {0: 1.0})
    speeds = {0: 64.0, 10: 256.0}  # 0.5 and 2 batches of 128
    log = [
        {"step": step, "examples/sec": speed, "total_loss_raw": 1.0}
        for step, speed in speeds.items()
    ]
    (found,) = comparison.compare([dataclasses.replace(short, log=log)])
    assert found["minutes"] == pytest.approx((1 / 0.5 + 19 / 2) / 60)
    assert found["examples_per_second"] == 256


def test_the_first_summary_alone_tells_no_time():
    (found,) = comparison.compare([history(run("short"), 20, {0: 1.0})])
    assert (found["minutes"], found["examples_per_second"]) == (None, None)
    assert found["steps"] == 20


def test_a_run_that_was_killed_has_got_as_far_as_its_last_summary():
    (found,) = comparison.compare([history(run("killed"), 250, SPEEDS, {200: 0.5})])
    assert (found["steps"], found["saved"]) == (301, 250)


def test_the_loss_is_free_of_the_bias_of_its_start():
    records = [
        {"step": 0, "total_loss": 0.4, "global_step/sec": 1.0},
        {"step": 500, "total_loss": 3.0, "global_step/sec": 1.0},
    ]
    (found,) = comparison.compare([dataclasses.replace(UNSAVED, training=records)])
    assert found["loss"]["steps"] == [0, 500]
    assert found["loss"]["total_loss"] == pytest.approx([4, 3])


def test_runs_of_the_same_name_are_told_apart_by_their_paths():
    made = [history(run(name)) for name in ("a/run", "b/run", "c/other")]
    names = [record["name"] for record in comparison.compare(made)]
    assert names == ["a/run", "b/run", "other"]


def test_recipes_stand_for_their_settings():
    recipes = [("resnet18", {}), ("vgg16_bn", {}), ("vgg16_bn", {"warmup": 0.5})]
    made = [history(run(r, recipe=r, **given)) for r, given in recipes]
    found = [record["settings"] for record in comparison.compare(made)]
    assert [settings["recipe"] for settings in found] == [
        "resnet18",
        "vgg16_bn",
        "vgg16_bn",
    ]
    assert [settings["warmup"] for settings in found] == [0.0, 0.0, 0.5]
    assert set(found[0]) == {"recipe", "warmup"}


def test_speed_settings_differ_too_but_places_do_not():
    made = [history(run("a", num_devices=1, data_dir="/a")), history(run("b"))]
    assert [r["settings"] for r in comparison.compare(made)] == [
        {"num_devices": 1},
        {"num_devices": None},
    ]


def test_the_record_is_json():
    records = comparison.compare([PLAIN, FAST, FOREIGN, UNSAVED])
    assert json.loads(json.dumps(records, allow_nan=False)) == records


def write_run(folder: pathlib.Path) -> Run:
    """Writes summaries and evaluations of a run, some of them partial or raw."""
    made = run(str(folder))
    made.checkpoints.mkdir(parents=True)
    (made.checkpoints / "20").mkdir()
    with Writers("jsonl", made.path) as writers:
        writers.write(Summary("train", 0, {"total_loss": 4, "global_step/sec": 5}))
    for name, precision, count in [
        ("test", 0.5, 10),
        ("test", 0.9, 8),
        ("test_partial", 0.9, 8),
        ("test_raw", 0.8, 10),
    ]:
        with Writers("jsonl", made.path) as writers:
            facts = {"num_examples": count, "examples_in_split": 10}
            scalars = {"precision_at_1": precision}
            writers.write(Summary(f"eval/{name}", 20, scalars, facts))
    return made


def test_only_whole_evaluations_of_averaged_parameters_are_read(tmp_path):
    found = comparison.read(write_run(tmp_path / "run"))
    assert (found.saved, len(found.training)) == (20, 1)
    (test,) = found.evaluations["test"]
    assert (test["precision_at_1"], test["num_examples"]) == (0.5, 10)
    assert found.evaluations["validation"] == []


def test_a_run_without_summaries_is_read(tmp_path):
    assert comparison.read(run(str(tmp_path))).training == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train", '{"step": 40, "global_step/sec": 5}'),
        ("train", '{"step": 40, "total_loss": NaN, "global_step/sec": 5}'),
        ("train", '{"step": 40, "total_loss": 4, "global_step/sec": 0}'),
        ("train", '{"step": -1, "total_loss": 4, "global_step/sec": 1}'),
        ("eval/test", '{"step": 40, "num_examples": 9, "examples_in_split": 9}'),
        (
            "eval/test",
            '{"step": 40, "precision_at_1": 9, "num_examples": 9, '
            '"examples_in_split": 9}',
        ),
        (
            "eval/test",
            '{"step": 40, "precision_at_1": 0, "num_examples": "", '
            '"examples_in_split": ""}',
        ),
    ],
)
def test_a_damaged_line_is_named(tmp_path, name, line):
    made = write_run(tmp_path / "run")
    path = made.path / f"{name}.jsonl"
    path.write_text(line + "\n")  # as earlier versions wrote it, without a checksum
    with pytest.raises(UserError, match=r"\.jsonl is damaged: in its line for step "):
        comparison.read(made)


@pytest.mark.parametrize("name", ["train", "eval/test"])
@pytest.mark.parametrize("line", ['{"step": 40}', "{", "[1]", "null"])
def test_a_line_without_a_checksum_after_lines_with_one_is_named(tmp_path, name, line):
    made = write_run(tmp_path / "run")
    path = made.path / f"{name}.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"line \d does not match its checksum"):
        comparison.read(made)


def test_evaluations_on_other_data_are_left_out(tmp_path):
    made = write_run(tmp_path / "run")
    facts = {"num_examples": 10, "examples_in_split": 10, "fingerprint": "other"}
    with Writers("jsonl", made.path) as writers:
        writers.write(Summary("eval/test", 30, {"precision_at_1": 0.9}, facts))
    (test,) = comparison.read(made).evaluations["test"]
    assert (test["step"], test["precision_at_1"]) == (20, 0.5)


def test_what_is_no_file_is_named(tmp_path):
    made = write_run(tmp_path / "run")
    (made.path / "eval" / "validation.jsonl").mkdir()
    with pytest.raises(UserError, match=r"validation\.jsonl: it is not a regular file"):
        comparison.read(made)


@pytest.mark.parametrize("count", [1, 8])
def test_the_plot_has_a_curve_for_each_run(count):
    made = [PLAIN, FAST, FOREIGN, UNSAVED, *(history(run(f"{i}")) for i in range(4))]
    records = comparison.compare(made[:count])
    figure = comparison_plot.draw(records)
    *_, legend = figure.legends
    assert len(legend.get_texts()) == count
    losses = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert len(losses) == sum(bool(record["loss"]["steps"]) for record in records)


def test_the_plot_can_be_read_without_color_and_covers_no_point():
    twice = dataclasses.replace(PLAIN, run=FOREIGN.run)
    records = comparison.compare([PLAIN, FAST, twice])
    figure = comparison_plot.draw(records)
    losses, precisions = figure.axes
    assert len({line.get_marker() for line in losses.lines}) == 3
    styles = {(one.get_marker(), one.get_linestyle()) for one in precisions.lines}
    assert styles == {("o", "-"), ("s", "-"), ("s", "--"), ("^", "-")}
    # Both legends are outside the panels, with what the marked name means.
    assert precisions.get_legend() is losses.get_legend() is None
    splits, runs = figure.legends
    labels = [text.get_text() for text in splits.get_texts()]
    assert labels == ["test images", "validation images"]
    assert [text.get_text() for text in runs.get_texts()] == ["plain", "fast", "$x_1 *"]
    title = runs.get_title()
    assert title.get_visible()
    assert title.get_text().startswith("* trained on different pixels than plain")
    figure.draw_without_rendering()
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    for legend in (splits, runs):
        place = legend.get_window_extent()
        assert not any(place.overlaps(box) for box in boxes)
    # Evaluations are at their steps, also where there is only one.
    assert losses.get_xlim() == precisions.get_xlim()
    assert len(comparison_plot.draw(records[:2]).legends[1].get_title().get_text()) == 0


def test_the_curve_of_a_short_run_has_every_line_of_its_log():
    log = [{"step": 10 * i, "total_loss_raw": 5 - 0.01 * i} for i in range(26)]
    (found,) = comparison.compare([dataclasses.replace(PLAIN, log=log)])
    assert found["loss"]["steps"] == [10 * i for i in range(26)]
    assert found["loss"]["total_loss"][-1] == pytest.approx(4.75)
    long = [{"step": i, "total_loss_raw": float(i)} for i in range(1000)]
    (found,) = comparison.compare([dataclasses.replace(PLAIN, log=long)])
    assert found["loss"]["steps"] == list(range(4, 1000, 5))
    assert found["loss"]["total_loss"][:2] == [2, 7]
    assert found["steps"] == 1000


def test_the_log_of_a_run_is_read(tmp_path):
    made = write_run(tmp_path / "run")
    assert comparison.read(made).log == []  # as of earlier versions
    with Writers("jsonl", made.path) as writers:
        for step in (0, 10):
            writers.note(Summary("log", step, {"total_loss_raw": 4.5}))
    assert [line["step"] for line in comparison.read(made).log] == [0, 10]
    (made.path / "log.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(UserError, match=r"log\.jsonl is damaged"):
        comparison.read(made)
