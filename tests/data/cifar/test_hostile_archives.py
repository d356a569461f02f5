"""Tests that damaged and hostile archives are rejected on one line, without harm."""

import gzip
import io
import os
import pickle
import tarfile

import pytest
import small_cifar
from test_archives import KINDS, assert_is_original, read

from cifar_jax.data.cifar import archives, cifar10, cifar100
from cifar_jax.errors import UserError


def assert_rejected(path, published, kind, *words):
    with pytest.raises(UserError) as caught:
        read(path, published, kind)
    message = str(caught.value)
    assert "\n" not in message
    archive = small_cifar.layout(kind, published).archive
    for word in (str(path), archive, published.title, *words):
        assert word in message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("label too large", "range from"),
        ("fewer images", "it has 19 images, not 20"),
        ("missing file", "has no "),
    ],
)
def test_damaged_files_are_rejected(tmp_path, published, kind, packed, damage, words):
    layout = small_cifar.layout(kind, published)
    contents = small_cifar.files(kind, published=published)
    stem = published.train[-1].stem
    pixels, labels = small_cifar.arrays(published=published)[stem]
    name = stem + layout.format.suffix
    if damage == "label too large":
        labels[3, -1] = len(published.labels[-1].class_names)
        contents[name] = small_cifar.encode(kind, pixels, labels, published)
    elif damage == "fewer images":
        contents[name] = small_cifar.encode(kind, pixels[:-1], labels[:-1], published)
    else:
        del contents[name]
    if packed:
        path = small_cifar.write_archive(tmp_path, kind, contents, published)
    else:
        path = small_cifar.write_folder(tmp_path / layout.folder, contents)
    assert_rejected(path, published, kind, words, name)


def test_the_kind_of_a_label_out_of_range_is_named(tmp_path):
    published = small_cifar.CIFAR100
    contents = small_cifar.files("binary", published=published)
    contents["test.bin"] = b"\x14" + contents["test.bin"][1:]
    path = small_cifar.write_archive(tmp_path, "binary", contents, published)
    words = "test.bin: coarse_labels range from 0 to 20, not 0-19"
    assert_rejected(path, published, "binary", words)


def first_file(published, seed=0):
    """Returns the name and the contents of the first file of the binary archive."""
    return next(iter(small_cifar.files("binary", seed, published).items()))


def write_tar(tmp_path, published, *members):
    """Writes an archive of (TarInfo fields, data) members and valid other files."""
    path = tmp_path / published.binary.archive
    _, *others = small_cifar.files("binary", published=published).items()
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for fields, data in members:
            member = tarfile.TarInfo()
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, data in others:
            small_cifar.add_member(archive, f"{published.binary.folder}/{name}", data)
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_not_followed(tmp_path, published, kind):
    name, data = first_file(published)
    secret = tmp_path / "secret"
    secret.write_bytes(data)
    name = f"{published.binary.folder}/{name}"
    link = ({"name": name, "type": kind, "linkname": str(secret)}, b"")
    path = write_tar(tmp_path, published, link)
    assert_rejected(path, published, "binary", "is not a plain file")


@pytest.mark.parametrize("prefix", ["../", "/", "FOLDER/../"])
def test_names_that_point_elsewhere_are_ignored(tmp_path, published, prefix):
    name, data = first_file(published)
    folder = published.binary.folder
    name = f"{prefix.replace('FOLDER', folder)}{folder}/{name}"
    data_dir = tmp_path / "a/b"
    data_dir.mkdir(parents=True)
    path = write_tar(data_dir, published, ({"name": name}, data))
    assert_rejected(path, published, "binary", "has no file")
    assert sorted(tmp_path.rglob("*.bin")) == []


def test_the_first_of_two_equal_names_is_used(tmp_path, published):
    name, data = first_file(published)
    _, other = first_file(published, seed=1)
    fields = {"name": f"{published.binary.folder}/{name}"}
    path = write_tar(tmp_path, published, (fields, data), (fields, other))
    assert_is_original(read(path, published), published)


def test_implausible_size_of_a_file_is_rejected(tmp_path, published):
    name, data = first_file(published)
    name, data = f"{published.binary.folder}/{name}", data + bytes(20_000)
    path = write_tar(tmp_path, published, ({"name": name}, data))
    assert_rejected(path, published, "binary", f"claims to be {len(data):,} bytes")
    folder = small_cifar.write_folder(
        tmp_path / "folder", {first_file(published)[0]: data}
    )
    assert_rejected(folder, published, "binary", "is over 80,000 bytes long")


def test_official_files_are_far_from_implausible():
    for published in (cifar10.CIFAR10, cifar100.CIFAR100):
        for part in (*published.train, *published.test):
            # CIFAR-100's train, as pickled, is 155,249,918 bytes long.
            size = part.records * 3_105
            assert size < 0.8 * part.records * archives.MAX_BYTES_PER_RECORD
        assert sum(published.counts) * 3_105 < 0.8 * archives.MAX_ARCHIVE_BYTES


def test_declared_size_is_not_allocated(tmp_path, published):
    member = tarfile.TarInfo(f"{published.binary.folder}/{first_file(published)[0]}")
    member.size = 10**11
    path = tmp_path / published.binary.archive
    path.write_bytes(gzip.compress(member.tobuf() + bytes(1024)))
    assert_rejected(path, published, "binary")


def test_gzip_bomb_is_not_unpacked(tmp_path, published, monkeypatch):
    path = tmp_path / published.binary.archive
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(bytes(1_000_000))
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1_000_000)
    peak = small_cifar.peak_bytes(
        assert_rejected, path, published, "binary", "unpacks to more"
    )
    assert peak < 8_000_000


class Touch:
    """Object whose unpickling would run a shell command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickle_is_not_executed(tmp_path, published, protocol):
    contents = small_cifar.files("python", published=published)
    victim = tmp_path / "executed"
    *_, name = contents
    labels = {key.encode(): [] for key in small_cifar.keys(published)}
    batch = {b"data": Touch(victim), **labels}
    contents[name] = pickle.dumps(batch, protocol=protocol)
    path = small_cifar.write_archive(tmp_path, "python", contents, published)
    assert_rejected(path, published, "python", f"{name}: its pickle")
    assert not victim.exists()


@pytest.mark.parametrize("make", small_cifar.NO_FILES)
def test_anything_but_a_regular_file_is_rejected_without_waiting(
    tmp_path, published, make
):
    path = tmp_path / published.binary.archive
    make(path)
    assert archives.find(published, tmp_path) == (path, published.binary)
    assert_rejected(path, published, "binary", "regular file")
    contents = small_cifar.files("binary", published=published)
    folder = small_cifar.write_folder(tmp_path / "folder", contents)
    *_, name = contents
    (folder / name).unlink()
    make(folder / name)
    assert_rejected(folder, published, "binary", f"has no regular file {name}")


def test_a_folder_that_is_a_link_to_itself_is_found_and_rejected(tmp_path, published):
    path = tmp_path / published.binary.folder
    small_cifar.link_to_itself(path)
    assert archives.find(published, tmp_path) == (path, published.binary)
    assert_rejected(path, published, "binary", "is not a regular file")
