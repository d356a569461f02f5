import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import small_cifar
from test_archives import assert_is_original
from tfds_files import write_info, write_tfds

from cifar_jax.data.cifar import download, source, tfds_builder
from cifar_jax.data.cifar.published import Part
from cifar_jax.errors import UserError

CIFAR10 = small_cifar.CIFAR10


def prepare(data_dir, published=CIFAR10):
    path = small_cifar.write_archive(data_dir, published=published)
    tfds_builder.prepare(published, data_dir, path)
    return data_dir


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Returns a folder in which both data sets were prepared, for reading only."""
    data_dir = tmp_path_factory.mktemp("prepared")
    prepare(data_dir, small_cifar.CIFAR10)
    return prepare(data_dir, small_cifar.CIFAR100)


@pytest.fixture
def copy(prepared, tmp_path):
    """Returns a copy of the prepared folder that tests may damage."""
    return shutil.copytree(prepared, tmp_path / "copy")


def test_round_trip_keeps_the_order_of_the_archive(prepared, published):
    records = tfds_builder.read_prepared(published, prepared)
    assert_is_original(records, published)
    assert "tensorflow" not in sys.modules


def test_prepared_data_keep_their_place_and_their_features(prepared, published):
    """Data that an earlier version prepared must be found and read."""
    folder = prepared / f"cifar_jax_{published.name}" / "1.0.0"
    assert tfds_builder.prepared_folder(published, prepared) == folder
    features = json.loads((folder / "features.json").read_text())["featuresDict"]
    names = {"cifar10": {"label"}, "cifar100": {"label", "coarse_label"}}
    assert features["features"].keys() == {"image"} | names[published.name]


def test_preparing_prints_nothing_on_stdout(tmp_path, capsys):
    prepare(tmp_path)
    assert capsys.readouterr().out == ""


def test_killed_preparation_is_done_again(tmp_path):
    script = """
        import os, signal, sys
        from pathlib import Path
        import small_cifar
        from cifar_jax.data.cifar import tfds_builder

        def killed(self, records):
            yield 0, {"image": records.images[0], "label": 0}
            os.kill(os.getpid(), signal.SIGKILL)

        small = small_cifar.CIFAR10
        tfds_builder.make_builder_class(small)._generate_examples = killed
        folder = Path(sys.argv[1])
        tfds_builder.prepare(small, folder, small_cifar.write_archive(folder))
    """
    data = Path(__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path],
        env={**os.environ, "PYTHONPATH": f"{data.parents[1]}{os.pathsep}{data}"},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tfds_builder.prepared_folder(CIFAR10, tmp_path)
    assert list(folder.parent.glob("incomplete*"))
    assert not folder.exists()

    with download.lock(tmp_path, "a test", 1):  # as if it was not killed
        tfds_builder.delete_leftovers(CIFAR10, tmp_path)
    assert list(folder.parent.glob("incomplete*"))
    [archive] = tmp_path.glob("*.tar.gz")
    source.load(CIFAR10, tmp_path, CIFAR10.labels[0])
    assert not list(folder.parent.glob("incomplete*"))
    assert archive.exists()

    prepare(tmp_path)
    assert_is_original(tfds_builder.read_prepared(CIFAR10, tmp_path), CIFAR10)


def test_damaged_shard_names_the_folder_to_delete(copy):
    folder = tfds_builder.prepared_folder(CIFAR10, copy)
    (shard,) = folder.glob("*test.array_record*")
    shard.unlink()
    with pytest.raises(UserError, match="delete that folder") as caught:
        tfds_builder.read_prepared(CIFAR10, copy)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_description_names_the_folder_to_delete(copy, name):
    (tfds_builder.prepared_folder(CIFAR10, copy) / name).write_text("{")
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.read_prepared(CIFAR10, copy)


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
@pytest.mark.parametrize("name", ["dataset_info.json", "*test.array_record*"])
def test_anything_but_a_regular_file_is_an_error_and_does_not_hang(copy, name, make):
    (path,) = tfds_builder.prepared_folder(CIFAR10, copy).glob(name)
    path.unlink()
    make(path)
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.read_prepared(CIFAR10, copy)


def test_prepared_data_of_another_size_are_rejected(prepared):
    part = Part("test_batch", small_cifar.RECORDS + 1)
    published = dataclasses.replace(CIFAR10, test=(part,))
    with pytest.raises(UserError, match="has 20 images"):
        tfds_builder.read_prepared(published, prepared)


def test_prepared_data_of_other_classes_are_rejected(prepared):
    labels = dataclasses.replace(CIFAR10.labels[0], class_names=("cat", "dog"))
    published = dataclasses.replace(CIFAR10, labels=(labels,))
    with pytest.raises(UserError, match="labels range from 0 to 9, not 0-1"):
        tfds_builder.read_prepared(published, prepared)


def test_data_prepared_by_tfds_are_read_in_the_archives_order(tmp_path, published):
    folder = write_tfds(tmp_path, published)
    assert tfds_builder.find_tfds(published, tmp_path) == (folder, None)
    assert_is_original(tfds_builder.read_tfds(published, folder), published)
    assert "tensorflow" not in sys.modules


def test_other_formats_are_skipped_with_a_remark(tmp_path):
    assert tfds_builder.find_tfds(CIFAR10, tmp_path) == (None, None)
    write_info(tmp_path, "3.0.2", json.dumps({"fileFormat": "tfrecord"}))
    folder, remark = tfds_builder.find_tfds(CIFAR10, tmp_path)
    assert folder is None
    assert "was skipped" in remark


def test_newest_readable_version_is_taken(tmp_path):
    write_info(tmp_path, "3.0.2", json.dumps({"fileFormat": "array_record"}))
    newest = write_info(tmp_path, "3.0.10", json.dumps({"fileFormat": "array_record"}))
    write_info(tmp_path, "4.0.0", json.dumps({}))
    assert tfds_builder.find_tfds(CIFAR10, tmp_path) == (newest, None)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "\0", "[" * 100_000],
    ids=["empty", "cut", "a list", "zero", "deep"],
)
def test_damaged_description_of_tfds_is_an_error(tmp_path, text):
    write_info(tmp_path, "3.0.2", text)
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.find_tfds(CIFAR10, tmp_path)


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
def test_description_that_is_not_a_file_is_an_error_and_does_not_hang(tmp_path, make):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    make(folder / "dataset_info.json")
    with pytest.raises(UserError, match="not a regular file"):
        tfds_builder.find_tfds(CIFAR10, tmp_path)
