import hashlib
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
from cifar_jax.errors import RunError, UserError

pytestmark = pytest.mark.usefixtures("small_batches")


def expect_archive(monkeypatch, url, archive):
    """Lets the builder download this archive from this URL."""
    import tensorflow_datasets as tfds

    info = tfds.download.checksums.UrlInfo(
        size=tfds.core.utils.Size(len(archive)),
        checksum=hashlib.sha256(archive).hexdigest(),
        filename="cifar-10-binary.tar.gz",
    )
    monkeypatch.setattr(tfds_builder, "URL", url)
    monkeypatch.setattr(tfds_builder._builder_class(), "url_infos", {url: info})


def prepare(monkeypatch, data_dir):
    archive = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
    with small_cifar.served(archive) as url:
        expect_archive(monkeypatch, url, archive)
        tfds_builder.download_and_prepare(data_dir)


def assert_is_original(tmp_path, train, test):
    path = small_cifar.write_archive(tmp_path)
    expected = archives.read(path, archives.BINARY)
    for split, original in ((train, expected.train), (test, expected.test)):
        np.testing.assert_array_equal(split.images, original.images)
        np.testing.assert_array_equal(split.labels, original.labels)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32


def test_checksums_are_found_and_are_the_official_ones():
    info = tfds_builder._builder_class().url_infos[tfds_builder.URL]
    assert info.size == 170_052_171
    assert info.checksum == (
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    )


def test_round_trip_keeps_the_order_of_the_archive(tmp_path, monkeypatch, capsys):
    prepare(monkeypatch, tmp_path / "new")
    assert_is_original(tmp_path, *tfds_builder.read_prepared(tmp_path / "new"))
    assert "tensorflow" not in sys.modules
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Dl Size" in printed.err


def test_killed_preparation_is_done_again(tmp_path, monkeypatch):
    archive = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
    script = """
        import os, signal, sys
        import pytest, small_cifar
        from cifar_jax.data import archives, tfds_builder
        from test_tfds_builder import prepare

        def killed(self, split):
            yield 0, {"image": split.images[0], "label": 0}
            os.kill(os.getpid(), signal.SIGKILL)

        archives.RECORDS_PER_BATCH = small_cifar.RECORDS
        tfds_builder._builder_class()._generate_examples = killed
        prepare(pytest.MonkeyPatch(), sys.argv[1])
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

    with small_cifar.served(archive) as url:
        expect_archive(monkeypatch, url, archive)
        tfds_builder.download_and_prepare(tmp_path)
    assert_is_original(tmp_path, *tfds_builder.read_prepared(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped"])
def test_damaged_shard_names_the_folder_to_delete(tmp_path, monkeypatch, damage):
    prepare(monkeypatch, tmp_path)
    folder = tfds_builder.prepared_folder(tmp_path)
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
        tfds_builder.read_prepared(tmp_path)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_description_names_the_folder_to_delete(tmp_path, monkeypatch, name):
    prepare(monkeypatch, tmp_path)
    (tfds_builder.prepared_folder(tmp_path) / name).write_text("{")
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.read_prepared(tmp_path)


def test_prepared_data_of_another_size_are_rejected(tmp_path, monkeypatch):
    prepare(monkeypatch, tmp_path)
    monkeypatch.setattr(archives, "RECORDS_PER_BATCH", small_cifar.RECORDS + 1)
    with pytest.raises(UserError, match="has 100 images"):
        tfds_builder.read_prepared(tmp_path)


def test_other_file_from_the_server_is_refused(tmp_path, monkeypatch):
    archive = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
    with small_cifar.served(b"other") as url:
        expect_archive(monkeypatch, url, archive)
        with pytest.raises(RunError, match="not the official archive"):
            tfds_builder.download_and_prepare(tmp_path)
    assert not tfds_builder.prepared_folder(tmp_path).exists()


def test_broken_download_says_so(tmp_path, monkeypatch):
    archive = small_cifar.archive_bytes("binary", small_cifar.files("binary"))
    with small_cifar.served(archive[:1000], length=len(archive)) as url:
        expect_archive(monkeypatch, url, archive)
        with pytest.raises(RunError, match="broke off"):
            tfds_builder.download_and_prepare(tmp_path)
    prepare(monkeypatch, tmp_path)
    assert_is_original(tmp_path, *tfds_builder.read_prepared(tmp_path))


def test_of_two_preparations_at_once_the_first_to_finish_counts(tmp_path, monkeypatch):
    prepare(monkeypatch, tmp_path / "other")
    read = archives.read

    def finished_meanwhile(path, layout):
        folders = (tmp_path / "other", tmp_path / "mine")
        shutil.copytree(*(tfds_builder.prepared_folder(folder) for folder in folders))
        return read(path, layout)

    monkeypatch.setattr(archives, "read", finished_meanwhile)
    prepare(monkeypatch, tmp_path / "mine")
    monkeypatch.setattr(archives, "read", read)
    assert_is_original(tmp_path, *tfds_builder.read_prepared(tmp_path / "mine"))


def test_folder_that_cannot_be_made_is_the_users_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        prepare(monkeypatch, tmp_path / "file" / "below")


def test_full_disk_says_so(tmp_path, monkeypatch):
    def full(path, layout):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(archives, "read", full)
    with pytest.raises(RunError, match="is full"):
        prepare(monkeypatch, tmp_path)


def write_tfds_cifar10(data_dir):
    """What TFDS's own builder writes: shuffled PNGs with an id."""
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
            contents = archives.read(path, archives.BINARY)
            path.unlink()
            return {
                name: self._generate_examples(name, getattr(contents, name))
                for name in ("train", "test")
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


def test_what_tfds_itself_prepared_is_read_in_the_archives_order(tmp_path):
    folder = write_tfds_cifar10(tmp_path)
    assert tfds_builder.find_tfds_cifar10(tmp_path) == (folder, None)
    assert_is_original(tmp_path, *tfds_builder.read_tfds_cifar10(folder))
    assert "tensorflow" not in sys.modules


def write_info(data_dir, version, text):
    folder = data_dir / "cifar10" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(text)
    return folder


def test_other_formats_are_passed_over_with_a_remark(tmp_path):
    assert tfds_builder.find_tfds_cifar10(tmp_path) == (None, None)
    write_info(tmp_path, "3.0.2", json.dumps({"fileFormat": "tfrecord"}))
    folder, remark = tfds_builder.find_tfds_cifar10(tmp_path)
    assert folder is None
    assert "passed over" in remark


def test_newest_readable_version_is_taken(tmp_path):
    write_info(tmp_path, "3.0.2", json.dumps({"fileFormat": "array_record"}))
    newest = write_info(tmp_path, "3.0.10", json.dumps({"fileFormat": "array_record"}))
    write_info(tmp_path, "4.0.0", json.dumps({}))
    assert tfds_builder.find_tfds_cifar10(tmp_path) == (newest, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_damaged_description_of_tfds_is_an_error(tmp_path, text):
    write_info(tmp_path, "3.0.2", text)
    with pytest.raises(UserError, match="delete that folder"):
        tfds_builder.find_tfds_cifar10(tmp_path)
