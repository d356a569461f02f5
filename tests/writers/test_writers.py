import functools
import json
import resource

import hypothesis
import hypothesis.strategies as st
import jax
import pytest
from tensorboardX.proto import event_pb2

from cifar_jax import (
    Batch,
    Config,
    RunError,
    UserError,
    build_program,
    init_state,
    inspect,
)
from cifar_jax.training.hooks.summaries import summary
from cifar_jax.writers import RunInfo, Summary, Writers, jsonl

BOTH = "jsonl, tensorboard"


def read_events(directory) -> list:
    """Returns the events of TensorBoard files: records of length, CRC, data and CRC."""
    events = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            events.append(event_pb2.Event.FromString(content[at + 12 :][:length]))
            at += 16 + length
    return events


@pytest.fixture(scope="module")
def inspection(dataset):
    program = build_program(Config(model="small"), num_classes=3)
    state = init_state(program, jax.random.key(0), dataset.train.images)
    batch = Batch.from_arrays(dataset.train.images[:4], dataset.train.labels[:4])
    return jax.jit(functools.partial(inspect, program))(state, batch)


def test_lines_and_events_agree(tmp_path, inspection):
    whole = summary(0, {"loss": 2.5}, inspection)
    with Writers(BOTH, tmp_path) as writers:
        writers.write(lambda: whole)
        writers.write(Summary("train", 1, {"loss": 1.5}))
    first, second = jsonl.read_training(tmp_path / "train.jsonl")
    assert (first["step"], first["loss"], second["loss"]) == (0, 2.5, 1.5)
    assert first["hidden/sparsity"] == whole.scalars["hidden/sparsity"]
    assert sum(first["histograms"]["hidden/kernel"]["counts"]) == 192 * 32
    assert "histograms" not in second

    _, event, last = read_events(tmp_path)
    values = {value.tag: value for value in event.summary.value}
    assert (event.step, last.step) == (0, 1)
    assert values["loss"].simple_value == 2.5
    assert values["hidden/kernel"].histo.num == 192 * 32
    assert values["images/image/0"].image.width == 24
    assert set(values) == {*whole.scalars, *whole.histograms, *whole.images}


def test_tags_are_kept_and_tensorboard_shows_the_tutorials_names(tmp_path):
    scalars = {"total_loss": 1, "total_loss_raw": 2, "global_step/sec": 3}
    facts = {"num_examples": 8}
    with Writers(BOTH, tmp_path) as writers:
        writers.write(Summary("train", 0, scalars))
        writers.write(Summary("eval/test_raw", 5, {"precision_at_1": 0.5}, facts))
        writers.write(Summary("hooks", 5, {"test/top_5": 0.9}))
    values = [v for event in read_events(tmp_path) for v in event.summary.value]
    assert {value.tag: value.metadata.display_name for value in values} == {
        "total_loss": "",
        "total_loss_raw": "total_loss (raw)",
        "global_step/sec": "",
        "test_raw/precision_at_1": "Precision @ 1",
        "test/top_5": "",
    }
    line = json.loads((tmp_path / "eval" / "test_raw.jsonl").read_text())
    assert (line["precision_at_1"], line["num_examples"]) == (0.5, 8)
    assert json.loads((tmp_path / "hooks.jsonl").read_text())["test/top_5"] == 0.9
    assert len(list(tmp_path.rglob("events.*"))) == 1


def test_a_number_that_is_not_finite_is_null_in_json(tmp_path):
    with Writers("jsonl", tmp_path) as writers:
        writers.write(Summary("hooks", 1, {"a": float("nan"), "b": float("inf")}))
    line = (tmp_path / "hooks.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail)["a"] is None
    assert not list(tmp_path.glob("events.*"))


def test_a_resumed_training_replaces_what_came_after_its_checkpoint(tmp_path):
    with Writers(BOTH, tmp_path, RunInfo(tmp_path, start=0)) as writers:
        writers.write(Summary("train", 0, {"loss": 3}))
        writers.write(Summary("train", 100, {"loss": 2}))
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 200, "lo')  # Killed here.
    with Writers(BOTH, tmp_path, RunInfo(tmp_path, start=70)) as writers:
        writers.write(Summary("train", 80, {"loss": 1}))
    records = jsonl.read_training(tmp_path / "train.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(0, 3), (80, 1)]
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 3
    restarts = [e for e in read_events(tmp_path) if e.HasField("session_log")]
    assert [e.step for e in restarts] == [0, 70]
    assert restarts[0].session_log.status == event_pb2.SessionLog.START


def test_evaluations_of_some_images_are_not_taken_for_full_ones(tmp_path):
    with Writers(BOTH, tmp_path) as writers:
        for step, precision, count in [(9, 0.9, 10), (5, 0.5, 10), (9, 0.1, 3)]:
            facts = {"num_examples": count, "examples_in_split": 10}
            scalars = {"precision_at_1": precision}
            writers.write(Summary("test", step, scalars, facts))
    records = jsonl.read_evaluations(tmp_path / "test.jsonl")
    assert [(r["step"], r["precision_at_1"]) for r in records] == [(5, 0.5), (9, 0.9)]


@hypothesis.given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_is_noticed(tmp_path_factory, place, change):
    path = tmp_path_factory.mktemp("run") / "train.jsonl"
    with Writers("jsonl", path.parent) as writers:
        for step in range(3):
            writers.write(Summary("train", step, {"loss": step / 7}))
    text, whole = bytearray(path.read_bytes()), jsonl.read_training(path)
    at = int(place * len(text))
    text[at] ^= change
    path.write_bytes(text)
    if at == len(text) - 1:
        # Without its end, the last line is one that was cut off.
        assert jsonl.read_training(path) == whole[:2]
    else:
        with pytest.raises(UserError, match="does not match its checksum"):
            jsonl.read_training(path)


@hypothesis.given(st.integers(0, 40), st.booleans())
def test_a_line_that_was_cut_off_does_not_harm_others(tmp_path_factory, lost, again):
    path = tmp_path_factory.mktemp("run") / "train.jsonl"

    def write(step):
        with Writers("jsonl", path.parent) as writers:
            writers.write(Summary("train", step, {"loss": step / 7}))

    write(0)
    write(1)
    whole = jsonl.read_training(path)
    path.write_bytes(path.read_bytes()[: -lost or None])
    # Without the newline alone, the line is whole.
    kept = whole if lost <= 1 else whole[:1]
    assert jsonl.read_training(path) == kept
    if again:
        write(2)
        assert jsonl.read_training(path)[:-1] == kept
        assert jsonl.read_training(path)[-1]["step"] == 2


def test_lines_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 0, "loss": 3}\n{"step": 1, "lo\n{"step": 2, "loss": 1}\n')
    with Writers("jsonl", tmp_path) as writers:
        writers.write(Summary("train", 3, {"loss": 0.5}))
    found = [(r["step"], r["loss"]) for r in jsonl.read_training(path)]
    assert found == [(0, 3), (2, 1), (3, 0.5)]


def test_every_write_is_on_disk_at_once(tmp_path):
    with Writers(BOTH, tmp_path) as writers:
        writers.write(Summary("train", 0, {"loss": 3}))
        assert json.loads((tmp_path / "train.jsonl").read_text())["loss"] == 3
        assert len(read_events(tmp_path)) == 2


def test_a_full_disk_is_a_failed_run(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with Writers(BOTH, tmp_path) as writers:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            with pytest.raises(RunError, match=r"cannot write .*train\.jsonl"):
                writers.write(Summary("train", 0, {f"{i}": i for i in range(99)}))
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_directory_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match="cannot write"),
        Writers(BOTH, tmp_path / "file" / "eval") as writers,
    ):
        writers.write(Summary("test", 0, {}))


def test_a_summary_that_fails_does_not_hide_what_ended_the_run(tmp_path):
    def fail():
        raise OSError(24, "Too many open files")

    def run(error):
        with Writers(BOTH, tmp_path) as writers:
            writers.write(fail)
            if error is not None:
                raise error

    with pytest.raises(ZeroDivisionError):
        run(ZeroDivisionError())
    with pytest.raises(RunError, match="cannot write summaries: Too many open files"):
        run(None)
