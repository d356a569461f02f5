import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from cifar_jax import RunError, UserError, load_data, read_picture
from cifar_jax.data.folder import picture_cache, picture_files, pictures
from cifar_jax.data.split import fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cifar_jax" / "pictures"


def save(path, seed=0, size=(40, 30), format_=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, format_)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of two classes: 8 to train on and 2 to test."""
    for i in range(5):
        save(tmp_path / "data" / "cat" / f"{i}.png", i)
        save(tmp_path / "data" / "dog" / f"{i}.jpg", 10 + i)
    return tmp_path / "data"


def decoded(cache):
    return [path for path in cache.iterdir() if path.is_dir()]


def forbid_decoding(monkeypatch):
    monkeypatch.setattr(
        pictures, "decode", lambda file, *_, **__: pytest.fail(f"{file} was decoded")
    )


def test_images_are_those_that_predict_reads(folder):
    data = load_data("folder", folder)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.test), data.validation) == (8, 2, None)
    assert data.image_shape == (32, 32, 3)
    expected = {
        read_picture(path, (32, 32, 3)).tobytes(): data.class_names.index(
            path.parent.name
        )
        for path in folder.rglob("*.*g")
    }
    found = {
        image.tobytes(): label
        for split in (data.train, data.test)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert found == expected
    assert data.fingerprint == fingerprint(data.train, data.test)
    assert "1 in 5 of each class drawn for testing, seed 0" in data.source


def test_the_size_seed_and_validation_pictures_can_be_chosen(folder):
    data = load_data("folder", folder, picture_size=48, split_seed=3, validation_size=2)
    assert data.image_shape == (48, 48, 3)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)
    assert sorted(data.validation.labels) == [0, 1]


def test_validation_pictures_of_their_own(tmp_path):
    for split in ("train", "val", "test"):
        save(tmp_path / "d" / split / "a" / "1.png", len(split))
    data = load_data("folder", tmp_path / "d")
    assert len(data.validation) == 1
    assert data.fingerprint == fingerprint(data.train, data.test, data.validation)


def test_pictures_are_decoded_once(folder, cache, monkeypatch):
    before = load_data("folder", folder)
    forbid_decoding(monkeypatch)
    monkeypatch.setattr(
        picture_cache, "_digest", lambda _: pytest.fail("a picture was read")
    )
    again = load_data("folder", folder)
    assert again.fingerprint == before.fingerprint
    np.testing.assert_array_equal(again.train.images, before.train.images)
    assert len(decoded(cache)) == 1


def test_a_copy_or_touched_files_need_no_decoding(folder, tmp_path, monkeypatch):
    before = load_data("folder", folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    os.utime(folder / "cat" / "0.png", (1, 1))
    forbid_decoding(monkeypatch)
    assert load_data("folder", folder).fingerprint == before.fingerprint
    assert load_data("folder", copy).fingerprint == before.fingerprint


def test_a_changed_picture_is_decoded_even_if_size_and_time_are_as_before(folder):
    before = load_data("folder", folder)
    picture = folder / "cat" / "0.png"
    status = picture.stat()
    pixels = 255 - np.asarray(Image.open(picture))
    Image.fromarray(pixels).save(picture)
    assert picture.stat().st_size == status.st_size
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_data("folder", folder).fingerprint != before.fingerprint


@pytest.mark.parametrize("change", ["add", "remove", "rename", "move"])
def test_other_files_lead_to_another_cache(folder, change):
    before = load_data("folder", folder)
    match change:
        case "add":
            save(folder / "cat" / "new.png", 50)
        case "remove":
            (folder / "cat" / "0.png").unlink()
        case "rename":
            (folder / "cat" / "0.png").rename(folder / "cat" / "zz.png")
        case "move":
            (folder / "cat" / "0.png").rename(folder / "dog" / "0.png")
    assert load_data("folder", folder).fingerprint != before.fingerprint


def break_picture(folder):
    (folder / "cat" / "3.png").write_bytes(b"not a picture")


def test_damaged_pictures_are_named_and_refused(folder):
    break_picture(folder)
    message = r"1 of 10 pictures are damaged: cat/3.png .*--skip_damaged"
    with pytest.raises(UserError, match=message):
        load_data("folder", folder)


def test_damaged_pictures_are_left_out_if_asked(folder, monkeypatch):
    whole = load_data("folder", folder)
    break_picture(folder)
    with pytest.raises(UserError, match="damaged"):
        load_data("folder", folder)
    forbid_decoding(monkeypatch)  # the cache knows which are damaged
    data = load_data("folder", folder, skip_damaged=True)
    assert len(data.train) + len(data.test) == 9
    assert "1 of 10 pictures are damaged: cat/3.png" in data.notice
    assert data.fingerprint != whole.fingerprint


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_pictures_of_kinds_that_cannot_be_read_are_counted(folder, monkeypatch):
    monkeypatch.setattr(picture_files, "HAS_HEIF", False)
    for i in range(7):
        (folder / "cat" / f"IMG_{i}.HEIC").write_bytes(HEIC)
    save(folder / "dog" / "raw.nef", format_="TIFF")
    with monkeypatch.context() as patch:
        forbid_decoding(patch)
        message = (
            r"7 of 18 pictures end in .heic, a kind that needs pillow-heif \(pip "
            r"install 'cifar-jax\[heif\]'\); 1 of 18 pictures end in .nef, "
            r".*--skip_damaged"
        )
        with pytest.raises(UserError, match=message):
            load_data("folder", folder)
    data = load_data("folder", folder, skip_damaged=True)
    assert len(data.train) + len(data.test) == 10
    assert "7 of 18 pictures end in .heic" in data.notice
    assert "damaged" not in data.notice


def test_files_that_are_no_pictures_are_counted_by_their_endings(folder):
    for name in ("a.txt", "b.TXT", "c.xyz", "Thumbs.db", ".DS_Store"):
        (folder / "cat" / name).write_bytes(b"x")
    source = load_data("folder", folder).source
    assert "ignored files that are not pictures: 1 .db, 2 .txt, 1 .xyz" in source


def test_a_single_class_is_announced(folder):
    shutil.rmtree(folder / "dog")
    assert "only one class, 'cat'" in load_data("folder", folder).notice


def test_an_archive_is_to_be_unpacked(tmp_path):
    for name in ("pictures.zip", "pictures.tar.gz", "pictures.7z", "p.RAR", "p.tar"):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(UserError, match="is an archive; unpack it"):
            load_data("folder", tmp_path / name)
    with pytest.raises(UserError, match=r"sub-folders; unpack p.RAR first"):
        load_data("folder", tmp_path)
    (tmp_path / "1.png").touch()
    with pytest.raises(UserError, match=r"1.png is a file; pass the folder"):
        load_data("folder", tmp_path / "1.png")


def test_many_damaged_pictures_are_counted(folder):
    for path in folder.rglob("*.*g"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"10 of 10 pictures .*; \.\.\.;"):
        load_data("folder", folder)
    with pytest.raises(UserError, match=r"all train pictures in .* are damaged"):
        load_data("folder", folder, skip_damaged=True)


def test_a_class_of_damaged_pictures_is_refused(folder):
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"all training pictures of 'dog' .*damaged"):
        load_data("folder", folder, skip_damaged=True)


@pytest.mark.parametrize("kind", ["fifo", "broken link", "unreadable"])
def test_what_cannot_be_read_is_damaged(folder, kind):
    path = folder / "dog" / "9.png"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "broken link":
            path.symlink_to(folder / "missing")
        case "unreadable":
            save(path)
            path.chmod(0)
            if os.access(path, os.R_OK):
                pytest.skip("this user can read every file")
    with pytest.raises(UserError, match=r"1 of 11 pictures are damaged: .*dog/9.png"):
        load_data("folder", folder)
    path.unlink()
    save(path)
    assert len(load_data("folder", folder).train) == 9


@pytest.mark.parametrize("damage", ["contents.json", "train.images", "test.labels"])
@pytest.mark.parametrize("how", ["truncated", "changed"])
def test_a_damaged_cache_is_never_used(folder, cache, damage, how):
    load_data("folder", folder)
    file = decoded(cache)[0] / damage
    contents = file.read_bytes()
    if how == "truncated":
        file.write_bytes(contents[:-1])
    else:
        file.write_bytes(bytes([contents[0] ^ 1]) + contents[1:])
    with pytest.raises(UserError, match="delete that folder"):
        load_data("folder", folder)
    shutil.rmtree(file.parent)
    load_data("folder", folder)


def test_an_interrupted_decoding_leaves_nothing_that_is_used(
    folder, cache, monkeypatch
):
    decode = pictures.decode

    def interrupted(file, shape, value_range):
        if file.name == "4.png":
            raise KeyboardInterrupt
        return decode(file, shape, value_range=value_range)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_data("folder", folder)
    assert decoded(cache) == []
    assert len(load_data("folder", folder).train) == 8
    assert [path.suffix for path in decoded(cache)] == [""]


def test_runs_that_start_together_read_and_decode_once(folder, monkeypatch):
    written, read = [], []
    write, digest = picture_cache._write, picture_cache._digest
    monkeypatch.setattr(
        picture_cache, "_write", lambda *args: (written.append(1), write(*args))
    )
    monkeypatch.setattr(
        picture_cache, "_digest", lambda p: (read.append(p), digest(p))[1]
    )
    threads = [
        threading.Thread(target=load_data, args=("folder", folder)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert len(read) == len(set(read)) == len(list(folder.rglob("*.*g")))


def test_a_cache_that_cannot_be_written_is_a_failed_run(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match="set XDG_CACHE_HOME to another directory"):
        load_data("folder", folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": None}, "needs --data_dir"),
        ({"data_dir": "missing"}, "missing cannot be read"),
        ({"picture_size": 0}, "--picture_size=0 must be at least 1"),
        ({"split_seed": -1}, "--split_seed=-1 must be at least 0"),
        ({"validation_size": 8}, "--validation_size=8 is too large"),
    ],
)
def test_unusable_arguments_are_refused(folder, options, message):
    with pytest.raises(UserError, match=message):
        load_data("folder", **{"data_dir": folder} | options)


def test_one_class_and_one_picture_in_each_split_are_enough(tmp_path):
    save(tmp_path / "d" / "train" / "a" / "1.png")
    save(tmp_path / "d" / "test" / "a" / "2.png")
    data = load_data("folder", tmp_path / "d")
    assert (len(data.train), len(data.test), data.class_names) == (1, 1, ("a",))


def test_large_sets_are_not_hashed_again(folder, monkeypatch):
    before = load_data("folder", folder)
    monkeypatch.setattr(picture_cache, "MAX_VERIFIED_BYTES", 0)
    monkeypatch.setattr(picture_cache, "fingerprint", lambda *_: pytest.fail("hashed"))
    assert load_data("folder", folder).fingerprint == before.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "each"), [(2_000, 2), (5, 1_000)])
def test_many_classes_and_many_files(tmp_path, classes, each):
    save(tmp_path / "one.png", size=(2, 2))
    contents = (tmp_path / "one.png").read_bytes()
    for label in range(classes):
        folder = tmp_path / "data" / f"{label:05}"
        folder.mkdir(parents=True)
        for i in range(each):
            (folder / f"{i}.png").write_bytes(contents)
    data = load_data("folder", tmp_path / "data", picture_size=2)
    assert len(data.class_names) == classes
    assert len(data.train) + len(data.test) == classes * each
    assert np.bincount(data.test.labels).tolist() == [max(1, each // 5)] * classes


def test_pictures_have_the_names_of_their_files_whatever_is_left_out(folder):
    (folder / "cat" / "2.png").write_bytes(b"no picture")
    for _ in range(2):  # decoded, and from the cache
        data = load_data("folder", folder, skip_damaged=True, validation_size=2)
        for split in (data.train, data.validation, data.test):
            assert len(split.names) == len(split)
            for name, image in zip(split.names, split.images, strict=True):
                expected = read_picture(folder / name, (32, 32, 3))
                np.testing.assert_array_equal(image, expected)


def test_names_are_those_in_the_folder_with_splits_too(folder, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(folder, tmp_path / "splits" / split)
    data = load_data("folder", tmp_path / "splits")
    assert set(data.test.names) >= {"test/cat/0.png", "test/dog/4.jpg"}
    assert all(name.startswith("train/") for name in data.train.names)
