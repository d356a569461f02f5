import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import small_cifar
from PIL import Image

from cifar_jax.data import archives, tfds_builder
from cifar_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("small_batches")


@pytest.fixture(scope="module")
def prepared(small_batches, tmp_path_factory):
    """Returns a folder in which the archive was prepared, for reading only."""
    data_dir = tmp_path_factory.mktemp("prepared")
    tfds_builder.prepare(data_dir, small_cifar.write_archive(data_dir))
    return data_dir


@pytest.fixture
def copy(prepared, tmp_path):
    """Returns a copy of the prepared folder that tests may damage."""
    return shutil.copytree(prepared, tmp_path / "copy")


def assert_is_original(tmp_path, train, test):
    path = small_cifar.write_archive(tmp_path)
    expected = archives.read(path, archives.BINARY)
    for split, original in zip((train, test), expected, strict=True):
        np.testing.assert_array_equal(split.images, original.images)
        np.testing.assert_array_equal(split.labels, original.labels)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32


def test_round_trip_keeps_the_order_of_the_archive(prepared, tmp_path):
    assert_is_original(tmp_path, *tfds_builder.read_prepared(prepared))
    assert "tensorflow" not in sys.modules


def test_preparing_prints_nothing_on_stdout(tmp_path, capsys):
    tfds_builder.prepare(tmp_path, small_cifar.write_archive(tmp_path))
    assert capsys.readouterr().out == ""


def test_killed_preparation_is_done_again(tmp_path):
    script = """
        import os, signal, sys
        from pathlib import Path
        import small_cifar
        from cifar_jax.data import archives, tfds_builder

        def killed(self, split):
            yield 0, {"image": split.images[0], "label": 0}
            os.kill(os.getpid(), signal.SIGKILL)

        archives.RECORDS_PER_BATCH = small_cifar.RECORDS
        tfds_builder._builder_class()._generate_examples = killed
        folder = Path(sys.argv[1])
        tfds_builder.prepare(folder, small_cifar.write_archive(folder))
    """
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{Path(__file__).parent}"},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tfds_builder.prepared_folder(tmp_path)
    assert list(folder.parent.glob("incomplete*"))
    assert not folder.exists()

    tfds_builder.prepare(tmp_path, tmp_path / archives.BINARY.archive)
    assert_is_original(tmp_path, *tfds_builder.read_prepared(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped"])
def test_damaged_shard_names_the_folder_to_delete(copy, damage):
    folder = tfds_builder.prepared_folder(copy)
    (shard,) = folder.glob("*test.array_record*")
    data = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "truncated":
        shard.write_bytes(data[: len(data) // 2])
    else:
        data[1000] ^= 1
        shard.write_bytes(data)
    with pytest.raises(UserError, match="delete that folder") as caught:
        tfds_builder.read_prepared(copy)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_description_names_the_folder_to_delete(copy, name):
    (tfds_builder.prepared_folder(copy) / name).write_text("{")
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.read_prepared(copy)


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
@pytest.mark.parametrize("name", ["dataset_info.json", "*test.array_record*"])
def test_anything_but_a_regular_file_is_an_error_and_does_not_hang(copy, name, make):
    (path,) = tfds_builder.prepared_folder(copy).glob(name)
    path.unlink()
    make(path)
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.read_prepared(copy)


def test_prepared_data_of_another_size_are_rejected(prepared, monkeypatch):
    monkeypatch.setattr(archives, "RECORDS_PER_BATCH", small_cifar.RECORDS + 1)
    with pytest.raises(UserError, match="has 100 images"):
        tfds_builder.read_prepared(prepared)


def write_tfds_cifar10(data_dir):
    """Writes what TFDS's own builder writes: shuffled PNG images with ids."""
    import tensorflow_datasets as tfds

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "cifar10"
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            path = small_cifar.write_archive(data_dir)
            splits = archives.read(path, archives.BINARY)
            path.unlink()
            return {
                name: self._generate_examples(name, split)
                for name, split in zip(("train", "test"), splits, strict=True)
            }

        def _generate_examples(self, name, split):
            for index, image in enumerate(split.images):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                png.seek(0)
                yield (
                    index,
                    {
                        "id": f"{name}_{index:05d}",
                        "image": png,
                        "label": split.labels[index],
                    },
                )

    builder = Cifar10(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return Path(builder.data_dir)


def test_data_prepared_by_tfds_are_read_in_the_archives_order(tmp_path):
    folder = write_tfds_cifar10(tmp_path)
    assert tfds_builder.find_tfds_cifar10(tmp_path) == (folder, None)
    assert_is_original(tmp_path, *tfds_builder.read_tfds_cifar10(folder))
    assert "tensorflow" not in sys.modules


def write_info(data_dir, version, text):
    folder = data_dir / "cifar10" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(text)
    return folder


def test_other_formats_are_skipped_with_a_remark(tmp_path):
    assert tfds_builder.find_tfds_cifar10(tmp_path) == (None, None)
    write_info(tmp_path, "3.0.2", json.dumps({"fileFormat": "tfrecord"}))
    folder, remark = tfds_builder.find_tfds_cifar10(tmp_path)
    assert folder is None
    assert "was skipped" in remark


def test_newest_readable_version_is_taken(tmp_path):
    write_info(tmp_path, "3.0.2", json.dumps({"fileFormat": "array_record"}))
    newest = write_info(tmp_path, "3.0.10", json.dumps({"fileFormat": "array_record"}))
    write_info(tmp_path, "4.0.0", json.dumps({}))
    assert tfds_builder.find_tfds_cifar10(tmp_path) == (newest, None)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "\0", "[" * 100_000],
    ids=["empty", "cut", "a list", "zero", "deep"],
)
def test_damaged_description_of_tfds_is_an_error(tmp_path, text):
    write_info(tmp_path, "3.0.2", text)
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.find_tfds_cifar10(tmp_path)


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
def test_description_that_is_not_a_file_is_an_error_and_does_not_hang(tmp_path, make):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    make(folder / "dataset_info.json")
    with pytest.raises(UserError, match="not a regular file"):
        tfds_builder.find_tfds_cifar10(tmp_path)
