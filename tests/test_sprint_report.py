"""Tests the table and plot of experiments.accuracy.sprint."""

import json

import pytest
from run_experiments import quoted

from experiments.accuracy import sprint, sprint_report

# As airbench94_muon.py prints it: a run's epochs, and its evaluation with six views.
LINES = """
|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
|  warmup  |      0  |     0.0920  |   0.1030  |               |        2.7434  |
|          |   eval  |     0.0920  |   0.1030  |       0.1040  |        9.5000  |
|       0  |      7  |     0.9520  |   0.9301  |               |        1.3000  |
|          |   eval  |     0.9520  |   0.9301  |       0.9402  |        1.3500  |
"""


def test_the_originals_runs_are_read_from_its_output():
    lines = [(float(i), line) for i, line in enumerate(LINES.strip().split("\n"))]
    warm_up, run = sprint_report.original_results(lines)
    assert warm_up == {"accuracy": 0.104, "seconds_with_evaluation": 9.5, "ended": 2}
    assert run == {"accuracy": 0.9402, "seconds_with_evaluation": 1.35, "ended": 4}


@pytest.fixture
def records():
    commands = [
        {"accuracy": accuracy, "train_seconds": seconds, "train_command_seconds": 99}
        for accuracy, seconds in ((0.9, 10.0), (0.92, 30.0), (0.91, 20.0))
    ]
    program = {"accuracy": 0.94, "train_seconds": 1.0, "seconds_with_evaluation": 1.1}
    return [
        {"name": "--recipe=sprint", "results": commands},
        {"name": "original", "compile_seconds": 50.0, "results": [program]},
    ]


def test_the_table_has_means_medians_and_extremes(records):
    header, _, first, second = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in sprint_report.table(records).split("\n")
    )
    found = dict(zip(header, first, strict=True))
    assert found["run"] == "`--recipe=sprint`"
    assert (found["seeds"], found["accuracy"], found["sd"]) == ("3", "91.00%", "1.00")
    assert found["range"] == "90.00 to 92.00"
    assert found["training, s"] == "20 (10.00-30)"
    assert found["train command"] == "99 (99-99)"
    assert found["with evaluation"] == found["compilation"] == ""
    found = dict(zip(header, second, strict=True))
    assert (found["seeds"], found["sd"]) == ("1", "")
    assert (found["compilation"], found["train command"]) == ("50", "")


def test_the_picture_shows_every_seed(records):
    facts = {"device": "cpu: cpu", "processor": "Abacus", "cores": 2}
    figure = sprint_report.draw({"machine": facts, "runs": records})
    [axis] = figure.axes
    points = [line.get_xydata().tolist() for line in axis.get_lines()]
    assert points[0] == [[10, 90], [30, 92], [20, 91]]
    assert points[1] == [[20, pytest.approx(91)]]
    # A program's time includes its evaluation, as the original's does; a single run has
    # no mean.
    assert points[2] == [[1.1, 94]]
    names = {text.get_text() for text in axis.texts}
    assert {"--recipe=sprint\n91.00% (n = 3)", "original\n94.00% (n = 1)"} <= names
    assert "Abacus, 2 cores" in figure.get_supxlabel()


def test_the_kept_pictures_show_all_runs_of_their_table():
    for name, count in (("sprint", 4), ("sprint_gpu", 3)):
        record = json.loads(quoted(name).read_text())
        [axis] = sprint_report.draw(record).axes
        labels = [text.get_text() for text in axis.texts if text.get_text()]
        assert len(record["runs"]) == len(labels) == count


def test_the_original_is_where_it_is_run_from():
    assert sprint.PEER.is_file()
