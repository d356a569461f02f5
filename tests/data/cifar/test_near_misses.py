import pytest
import small_cifar

from cifar_jax import UserError, load_data
from cifar_jax.data.cifar import cifar10, download
from cifar_jax.data.cifar import source as cifar


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(download, "why_unreachable", lambda _: "refused")
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("downloaded"))


@pytest.fixture
def online(monkeypatch, offline):
    monkeypatch.setattr(download, "why_unreachable", lambda _: None)


def write(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return directory


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    "name",
    [
        *("cat/1.jpg", "train/cat/1.jpeg", "dataset/train/cat/1.PNG", "1.heic"),
        *("a/notes.txt.jpg", "Training/x/1.tif"),
    ],
)
def test_pictures_are_not_taken_for_cifar10(tmp_path, name):
    write(tmp_path, name)
    with pytest.raises(UserError, match=r"has pictures in .*pass --dataset=folder"):
        load_data("auto", tmp_path)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("cifar-10 python.tar.gz", "not named cifar-10-python.tar.gz; rename it"),
        ("cifar10_matlab.tgz", "not named cifar-10-matlab.tar.gz; rename it"),
        ("cifar10.tgz", "not named cifar-10-binary.tar.gz; rename it"),
        ("CIFAR-10.zip", "unpack it"),
        ("cifar-10.rar", "unpack it"),
        ("cifar-10-binary.tar.gz.crdownload", "is an unfinished download"),
        ("cifar-10-python.tar.gz.part", "is an unfinished download"),
        ("cifar-10-binary.tar.gz.download", "is an unfinished download"),
    ],
)
def test_an_archive_that_is_not_quite_right_is_named(tmp_path, name, way_out):
    write(tmp_path, name)
    with pytest.raises(UserError, match=way_out) as caught:
        load_data("auto", tmp_path)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    "name",
    [
        *("CIFAR-10-C.tar", "cifar10.1_v6_data.npy", "cifar-100-python.tar.gz"),
        *("mnist.zip", "mnist/3.0.1/x.array_record", ".cifar_jax.lock"),
        "cifar-10-binary.tar.gz.partial",
    ],
)
def test_other_files_do_not_keep_cifar10_from_being_downloaded(
    tmp_path, name, monkeypatch
):
    write(tmp_path, name)
    downloaded = []
    monkeypatch.setattr(
        cifar, "_download", lambda *args: downloaded.append(args) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        load_data("auto", tmp_path)
    assert downloaded


@pytest.mark.parametrize("name", ["notes.txt", "mnist.npz", "a/b.bin", "archive.zip"])
def test_the_stand_in_does_not_replace_what_somebody_named(tmp_path, name):
    write(tmp_path, name)
    with pytest.raises(UserError, match=r"digits for a stand-in|archive.zip.* unpack"):
        load_data("auto", tmp_path)


@pytest.mark.parametrize("names", [(), (".cifar_jax.lock",)])
def test_the_stand_in_is_for_folders_without_anything(tmp_path, names):
    assert load_data("auto", write(tmp_path / "new", *names)).name == "digits"


def test_the_default_folder_may_have_other_data(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(write(tmp_path, "mnist/x", "cat/1.jpg")))
    assert load_data("auto").name == "digits"


def test_pictures_beside_cifar10_do_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "CIFAR10", small_cifar.CIFAR10)
    small_cifar.write_archive(tmp_path)
    write(tmp_path, "cat/1.jpg")
    assert load_data("auto", tmp_path).name == "cifar10"
