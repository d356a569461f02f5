import hashlib
import io
import tarfile

import numpy as np
import pytest
import small_cifar

from cifar_jax.data.cifar import archives
from cifar_jax.data.split import fingerprint
from cifar_jax.errors import UserError

KINDS = small_cifar.KINDS
SMALL = (small_cifar.CIFAR10, small_cifar.CIFAR100)


def read(path, published, kind="binary"):
    return archives.read(published, path, small_cifar.layout(kind, published))


def assert_is_original(records, published):
    """Asserts that pixels and labels are those of small_cifar.arrays()."""
    originals = small_cifar.arrays(published=published).values()
    images = np.concatenate([part.images for part in records])
    labels = np.concatenate([part.labels for part in records])
    pixels = np.concatenate([pixels for pixels, _ in originals])
    for channel in range(3):
        plane = pixels[:, channel * 1024 : (channel + 1) * 1024].reshape(-1, 32, 32)
        np.testing.assert_array_equal(images[..., channel], plane)
    np.testing.assert_array_equal(
        labels, np.concatenate([labels for _, labels in originals])
    )
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gives_the_same_images(tmp_path, published, kind):
    path = small_cifar.write_archive(tmp_path, kind, published=published)
    layout = small_cifar.layout(kind, published)
    assert archives.find(published, tmp_path) == (path, layout)
    assert_is_original(read(path, published, kind), published)


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked_folder_is_read_from_outside_and_inside(tmp_path, published, kind):
    layout = small_cifar.layout(kind, published)
    contents = small_cifar.files(kind, published=published)
    folder = small_cifar.write_folder(tmp_path / layout.folder, contents)
    for place in (tmp_path, folder):
        assert archives.find(published, place) == (folder, layout)
    assert_is_original(read(folder, published, kind), published)


def test_nothing_is_found_in_an_empty_or_missing_folder(tmp_path, published):
    assert archives.find(published, tmp_path) is None
    assert archives.find(published, tmp_path / "missing") is None


def test_each_data_set_is_found_beside_the_other(tmp_path):
    paths = [small_cifar.write_archive(tmp_path, published=small) for small in SMALL]
    found = [archives.find(small, tmp_path) for small in SMALL]
    assert found == [(p, s.binary) for p, s in zip(paths, SMALL, strict=True)]


def test_folders_that_have_the_names_of_files_are_not_taken_for_them(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    assert archives.find(small_cifar.CIFAR100, tmp_path) is None


def test_files_may_come_in_any_order_with_others_between(tmp_path, published):
    contents = small_cifar.files("binary", published=published)
    contents = dict(reversed({"readme.html": b"<p>", **contents}.items()))
    path = small_cifar.write_archive(tmp_path, "binary", contents, published)
    assert_is_original(read(path, published), published)


def test_md5_is_that_of_the_binary_files(tmp_path, published):
    records = read(small_cifar.write_archive(tmp_path, published=published), published)
    *train, test = small_cifar.files("binary", published=published).values()
    for part, file in zip(records, (b"".join(train), test), strict=True):
        assert part.md5() == hashlib.md5(file).hexdigest()


def test_fingerprint_changes_with_a_pixel_or_a_label(tmp_path, published):
    records = read(small_cifar.write_archive(tmp_path, published=published), published)
    train, test = (part.split(0) for part in records)
    original = fingerprint(train, test)
    assert original == fingerprint(train, test)
    assert original != fingerprint(test, train)
    test.images[-1, -1, -1, -1] ^= 1
    changed = fingerprint(train, test)
    assert changed != original
    test.labels[-1] ^= 1
    assert fingerprint(train, test) not in (original, changed)


def packed_again(kind, published, place, mode="w:gz"):
    """Returns an archive with the files elsewhere, between others."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        small_cifar.add_member(archive, "README", b"more")
        for name, data in small_cifar.files(kind, published=published).items():
            if "." in name:  # as macOS does
                small_cifar.add_member(archive, f"__MACOSX/._{name}", b"resources")
            small_cifar.add_member(archive, f"{place}{name}", data)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["w:gz", "w:"])
@pytest.mark.parametrize("place", ["./FOLDER/", "data/FOLDER/", "./", "", "cifar/"])
def test_archives_that_were_packed_again(tmp_path, published, kind, place, mode):
    layout = small_cifar.layout(kind, published)
    place = place.replace("FOLDER", layout.folder)
    path = tmp_path / layout.archive
    path.write_bytes(packed_again(kind, published, place, mode))
    assert archives.find(published, tmp_path) == (path, layout)
    assert_is_original(read(path, published, kind), published)


def test_of_two_folders_in_an_archive_the_official_one_is_read(tmp_path, published):
    path = tmp_path / published.binary.archive
    other = small_cifar.files("binary", seed=1, published=published)
    with tarfile.open(path, "w:gz") as archive:
        for folder, files in (
            ("old", other),
            (
                f"new/{published.binary.folder}",
                small_cifar.files("binary", published=published),
            ),
        ):
            for name, data in files.items():
                small_cifar.add_member(archive, f"{folder}/{name}", data)
    assert_is_original(read(path, published), published)


@pytest.mark.parametrize(
    "name",
    [
        *("STEM.tar", "STEM.tgz", "STEM (1).tar.gz", "Copy of STEM.tar.gz"),
        *("FOLDER.tar.gz",),
        *("downloads/cs.toronto.edu_kriz_STEMx7-aB.tar.gz", "cifar/STEM.tar.gz"),
    ],
)
def test_archives_by_other_names(tmp_path, published, name):
    for kind in KINDS:
        layout = small_cifar.layout(kind, published)
        data_dir = tmp_path / kind
        own = name.replace("STEM", layout.stem).replace("FOLDER", layout.folder)
        (data_dir / own).parent.mkdir(parents=True)
        contents = small_cifar.files(kind, published=published)
        packed = small_cifar.archive_bytes(kind, contents, published)
        (data_dir / own).write_bytes(packed)
        path, found = archives.find(published, data_dir)
        assert path == data_dir / own
        assert_is_original(archives.read(published, path, found), published)


@pytest.mark.parametrize(
    "name", ["STEM.tar.gz.partial", "STEM.zip", "STEM.tar.gz.part"]
)
def test_what_is_no_archive_by_its_name(tmp_path, published, name):
    (tmp_path / name.replace("STEM", published.binary.stem)).write_bytes(b"")
    assert archives.find(published, tmp_path) is None


@pytest.mark.parametrize(
    "place", ["cifar", "FOLDER-target", "downloads/extracted/TAR_GZ.cs.toronto.edu"]
)
def test_an_unpacked_folder_below(tmp_path, published, place):
    layout = small_cifar.layout("python", published)
    folder = tmp_path / place.replace("FOLDER", layout.folder) / layout.folder
    small_cifar.write_folder(folder, small_cifar.files("python", published=published))
    assert archives.find(published, tmp_path) == (folder, layout)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_ones_own_in_these_formats_belong_into_a_folder(
    tmp_path, published, kind
):
    contents = small_cifar.files(kind, published=published)
    name = next(iter(contents))
    pixels, labels = next(iter(small_cifar.arrays(published=published).values()))
    contents[name] = small_cifar.encode(kind, pixels[:7], labels[:7], published)
    layout = small_cifar.layout(kind, published)
    folder = small_cifar.write_folder(tmp_path / layout.folder, contents)
    words = rf"{name}: it has 7 images, not 20; .*--dataset=folder$"
    with pytest.raises(UserError, match=words):
        read(folder, published, kind)
