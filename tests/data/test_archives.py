import contextlib
import gzip
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import small_cifar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cifar_jax.data import archives, batch_files
from cifar_jax.data.dataset import fingerprint
from cifar_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("small_batches")

KINDS = tuple(small_cifar.LAYOUTS)


def read(path, kind="binary"):
    return archives.read(path, small_cifar.LAYOUTS[kind])


def assert_is_original(splits):
    """Asserts that pixels and labels are those of small_cifar.arrays()."""
    originals = small_cifar.arrays()
    images = np.concatenate([split.images for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    pixels = np.concatenate([pixels for pixels, _ in originals.values()])
    for channel in range(3):
        plane = pixels[:, channel * 1024 : (channel + 1) * 1024].reshape(-1, 32, 32)
        np.testing.assert_array_equal(images[..., channel], plane)
    np.testing.assert_array_equal(
        labels, np.concatenate([labels for _, labels in originals.values()])
    )
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gives_the_same_images(tmp_path, kind):
    layout = small_cifar.LAYOUTS[kind]
    path = small_cifar.write_archive(tmp_path, kind)
    assert archives.find(tmp_path) == (path, layout)
    assert_is_original(read(path, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_folder_is_read_from_outside_and_inside(tmp_path, kind):
    layout = small_cifar.LAYOUTS[kind]
    folder = small_cifar.write_folder(tmp_path / layout.folder, small_cifar.files(kind))
    assert archives.find(tmp_path) == archives.find(folder) == (folder, layout)
    assert_is_original(read(folder, kind))


def test_nothing_is_found_in_an_empty_or_missing_folder(tmp_path):
    assert archives.find(tmp_path) is None
    assert archives.find(tmp_path / "missing") is None


def test_files_may_come_in_any_order_with_others_between(tmp_path):
    contents = {"readme.html": b"<p>", **small_cifar.files("binary")}
    path = small_cifar.write_archive(
        tmp_path, contents=dict(reversed(contents.items()))
    )
    assert_is_original(read(path))


def assert_rejected(path, kind, *words):
    with pytest.raises(UserError) as caught:
        read(path, kind)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), small_cifar.LAYOUTS[kind].archive, *words):
        assert word in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("label 10", "labels range from"),
        ("fewer images", "the pixels are uint8 (19, 3072)"),
        ("missing file", "has no "),
        ("half a file", "data_batch_2"),
    ],
)
def test_damaged_batches_are_rejected(tmp_path, kind, packed, damage, words):
    layout, contents = small_cifar.LAYOUTS[kind], small_cifar.files(kind)
    pixels, labels = small_cifar.arrays()["data_batch_2"]
    name = "data_batch_2" + layout.suffix
    if damage == "label 10":
        contents[name] = small_cifar.ENCODERS[kind](pixels, np.full_like(labels, 10))
    elif damage == "fewer images":
        contents[name] = small_cifar.ENCODERS[kind](pixels[:-1], labels[:-1])
    elif damage == "missing file":
        del contents[name]
    else:
        contents[name] = contents[name][: len(contents[name]) // 2 + 1]
    if packed:
        path = small_cifar.write_archive(tmp_path, kind, contents)
    else:
        path = small_cifar.write_folder(tmp_path / layout.folder, contents)
    assert_rejected(path, kind, words, name)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a gzip", gzip.compress(b"not a tar"), gzip.compress(b"")],
    # The bytes cannot serve as ids: gzip output contains a timestamp.
    ids=["empty", "no gzip", "no tar", "nothing compressed"],
)
def test_files_that_are_not_archives_are_rejected(tmp_path, data):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(data)
    assert_rejected(path, "binary")


def write_tar(tmp_path, *members):
    """Writes an archive of (TarInfo fields, data) members and valid other files."""
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for fields, data in members:
            member = tarfile.TarInfo()
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, data in small_cifar.files("binary").items():
            if name != "data_batch_1.bin":
                small_cifar.add_member(archive, f"cifar-10-batches-bin/{name}", data)
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_not_followed(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(small_cifar.files("binary")["data_batch_1.bin"])
    name = "cifar-10-batches-bin/data_batch_1.bin"
    path = write_tar(
        tmp_path, ({"name": name, "type": kind, "linkname": str(secret)}, b"")
    )
    assert_rejected(path, "binary", "is not a plain file")


@pytest.mark.parametrize("prefix", ["../", "/", "cifar-10-batches-bin/../"])
def test_names_that_point_elsewhere_are_ignored(tmp_path, prefix):
    data = small_cifar.files("binary")["data_batch_1.bin"]
    name = f"{prefix}cifar-10-batches-bin/data_batch_1.bin"
    data_dir = tmp_path / "a/b"
    data_dir.mkdir(parents=True)
    path = write_tar(data_dir, ({"name": name}, data))
    assert_rejected(path, "binary", "has no file")
    assert sorted(tmp_path.rglob("*.bin")) == []


def test_the_first_of_two_equal_names_is_used(tmp_path):
    contents = small_cifar.files("binary")
    name = "cifar-10-batches-bin/data_batch_1.bin"
    other = small_cifar.files("binary", seed=1)["data_batch_1.bin"]
    path = write_tar(
        tmp_path,
        ({"name": name}, contents["data_batch_1.bin"]),
        ({"name": name}, other),
    )
    assert_is_original(read(path))


def test_implausible_size_of_a_member_is_rejected(tmp_path, monkeypatch):
    path = small_cifar.write_archive(tmp_path)
    monkeypatch.setattr(batch_files, "MAX_BYTES", 1000)
    assert_rejected(path, "binary", "claims to be")


def test_declared_size_is_not_allocated(tmp_path):
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size = 10**11
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf() + bytes(1024)))
    assert_rejected(path, "binary")


def test_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-binary.tar.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(64):
            file.write(bytes(1_000_000))
    monkeypatch.setattr(archives, "_MAX_ARCHIVE_BYTES", 1_000_000)
    peak = small_cifar.peak_bytes(assert_rejected, path, "binary", "unpacks to more")
    assert peak < 8_000_000


class Touch:
    """Object whose unpickling would run a shell command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickle_is_not_executed(tmp_path, protocol):
    contents = small_cifar.files("python")
    victim = tmp_path / "executed"
    batch = {b"data": Touch(victim), b"labels": []}
    contents["test_batch"] = pickle.dumps(batch, protocol=protocol)
    path = small_cifar.write_archive(tmp_path, "python", contents)
    assert_rejected(path, "python", "test_batch: its pickle")
    assert not victim.exists()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    kind=st.sampled_from(KINDS),
    packed=st.booleans(),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.one_of(st.none(), st.integers(0, 255)),
)
def test_no_damage_raises_anything_but_user_error(tmp_path, kind, packed, place, byte):
    """Changes a byte or truncates the file there, most often near its start."""
    contents = small_cifar.files(kind)
    if packed:
        path = damaged_file = small_cifar.write_archive(tmp_path, kind, contents)
    else:
        path = small_cifar.write_folder(tmp_path / kind, contents)
        damaged_file = path / next(iter(contents))
    data = damaged_file.read_bytes()
    position = int(place**4 * len(data))
    rest = b"" if byte is None else bytes([byte]) + data[position + 1 :]
    damaged_file.write_bytes(data[:position] + rest)
    with contextlib.suppress(UserError):
        found = read(path, kind)
        if packed:  # gzip's checksum protects the pixels
            assert_is_original(found)


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
def test_anything_but_a_regular_file_is_rejected_without_waiting(tmp_path, make):
    path = tmp_path / "cifar-10-binary.tar.gz"
    make(path)
    assert archives.find(tmp_path) == (path, archives.BINARY)
    assert_rejected(path, "binary", "regular file")
    folder = small_cifar.write_folder(tmp_path / "folder", small_cifar.files("binary"))
    (folder / "test_batch.bin").unlink()
    make(folder / "test_batch.bin")
    assert_rejected(folder, "binary", "has no regular file test_batch.bin")


def test_a_folder_that_is_a_link_to_itself_is_found_and_rejected(tmp_path):
    path = tmp_path / "cifar-10-batches-bin"
    small_cifar.link_to_itself(path)
    assert archives.find(tmp_path) == (path, archives.BINARY)
    assert_rejected(path, "binary", "is not a regular file")


def test_fingerprint_changes_with_a_pixel_or_a_label(tmp_path):
    train, test = read(small_cifar.write_archive(tmp_path))
    original = fingerprint(train, test)
    assert original == fingerprint(train, test)
    assert original != fingerprint(test, train)
    test.images[-1, -1, -1, -1] ^= 1
    changed = fingerprint(train, test)
    assert changed != original
    test.labels[-1] ^= 1
    assert fingerprint(train, test) not in (original, changed)
