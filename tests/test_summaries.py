import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from cifar_jax import Config, RunError, build_program, summaries
from cifar_jax.summaries import Histogram, Writer


def read_events(directory) -> list:
    """Events of TensorBoard's files, whose records are length, CRC, data, CRC."""
    events = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            events.append(event_pb2.Event.FromString(content[at + 12 :][:length]))
            at += 16 + length
    return events


@pytest.fixture(scope="module")
def digest(dataset):
    program = build_program(Config(), num_classes=3)
    state = program.create_state(jax.random.key(0), dataset.train.images)
    images, labels = dataset.train.images[:4], dataset.train.labels[:4]
    return summaries.digest(program.inspect(state, images, labels))


def test_histogram_counts_and_moments():
    values = np.array([[0.0, 1.0], [1.0, 4.0]])
    histogram = Histogram.of(values)
    assert histogram.counts.sum() == 4
    assert (histogram.minimum, histogram.maximum) == (0, 4)
    assert (histogram.total, histogram.squares) == (6, 18)
    assert histogram.counts[0] == 1
    assert histogram.counts[-1] == 1


def test_histogram_of_one_value_and_of_bfloat16():
    assert Histogram.of(np.full(5, 0.1)).counts.sum() == 5
    assert Histogram.of(jnp.ones(5, jnp.bfloat16)).total == 5


def test_digest_has_what_the_tutorial_shows(digest):
    layers = ["conv1", "conv2", "local3", "local4", "softmax_linear"]
    parameters = [f"{layer}/{kind}" for layer in layers for kind in ("bias", "kernel")]
    expected = [f"{layer}/activations" for layer in layers] + parameters
    expected += [f"{name}/gradients" for name in parameters]
    assert sorted(digest.histograms) == sorted(expected)
    assert sorted(digest.scalars) == [f"{layer}/sparsity" for layer in layers]
    assert 0.3 < digest.scalars["conv1/sparsity"] < 0.7
    assert digest.scalars["softmax_linear/sparsity"] == 0
    assert sorted(digest.images) == [f"images/image/{i}" for i in range(3)]
    assert digest.histograms["conv1/activations"].counts.sum() == 4 * 24 * 24 * 64


def test_picture_puts_zero_at_grey_and_uses_the_range():
    image = np.zeros((2, 2, 3), np.float32)
    image[0, 0], image[1, 1] = -1.0, 0.5
    picture = summaries.as_picture(image)
    assert picture.dtype == np.uint8
    assert picture[0, 1, 0] == 127
    assert picture.min() == 0
    assert 127 < picture.max() <= 255
    assert (summaries.as_picture(np.zeros((2, 2, 3), np.float32)) == 127).all()


def test_lines_and_events_say_the_same(tmp_path, digest):
    with Writer(tmp_path, "train") as writer:
        writer.write(0, {"loss": 2.5}, digest)
        writer.write(1, {"loss": 1.5})
    first, second = summaries.read(tmp_path / "train.jsonl")
    assert (first["step"], first["loss"], second["loss"]) == (0, 2.5, 1.5)
    assert first["conv1/sparsity"] == digest.scalars["conv1/sparsity"]
    assert sum(first["histograms"]["conv1/kernel"]["counts"]) == 5 * 5 * 3 * 64
    assert "histograms" not in second

    _, event, last = read_events(tmp_path)
    values = {value.tag: value for value in event.summary.value}
    assert (event.step, last.step) == (0, 1)
    assert values["loss"].simple_value == 2.5
    assert values["conv1/kernel"].histo.num == 5 * 5 * 3 * 64
    assert values["images/image/0"].image.width == 24
    assert set(values) == {
        "loss",
        *digest.scalars,
        *digest.histograms,
        *digest.images,
    }


def test_resuming_keeps_lines_and_the_last_record_of_a_step_counts(tmp_path):
    with Writer(tmp_path, "train") as writer:
        writer.write(0, {"loss": 3})
        writer.write(100, {"loss": 2})
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 200, "lo')  # killed here
    with Writer(tmp_path, "train", resume_step=100) as writer:
        writer.write(100, {"loss": 1})
    assert [
        (r["step"], r["loss"]) for r in summaries.read(tmp_path / "train.jsonl")
    ] == [
        (0, 3),
        (100, 1),
    ]
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 4
    restart = [e for e in read_events(tmp_path) if e.HasField("session_log")]
    assert [e.step for e in restart] == [100]
    assert restart[0].session_log.status == event_pb2.SessionLog.START


def test_every_write_is_on_disk_at_once(tmp_path):
    with Writer(tmp_path, "train") as writer:
        writer.write(0, {"loss": 3})
        assert json.loads((tmp_path / "train.jsonl").read_text())["loss"] == 3
        assert len(read_events(tmp_path)) == 2


def test_a_full_disk_is_a_failed_run(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with Writer(tmp_path, "train") as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            with pytest.raises(RunError, match=r"cannot write .*train\.jsonl"):
                writer.write(0, {f"loss {i}": i for i in range(50)})
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        Writer(tmp_path / "file" / "eval", "test")
