import pytest

from cifar_jax import UserError
from cifar_jax.data.folder import splits


def write(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return directory


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ("train Train TRAINING training_set train-images train2017 seg_train", "train"),
        ("test Test testing test_set testset images_test", "test"),
        ("val valid validation Val2017 VALID eval dev valset", "val"),
        ("trains trainer bus testimony invalid valley device cat", None),
        ("images data set 1 _", None),
    ],
)
def test_the_split_that_a_name_says(names, split):
    assert {splits.find_split(name) for name in names.split()} == {split}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ("train valid test", {"train": "train", "val": "valid", "test": "test"}),
        ("Training Testing", {"train": "Training", "test": "Testing"}),
        ("TRAIN dev", {"train": "TRAIN", "val": "dev"}),
        ("train", {"train": "train"}),
        ("train bus tank", {}),
        ("valid invalid", {}),
        ("cat dog", {}),
    ],
)
def test_folders_of_splits(tmp_path, folders, expected):
    for name in folders.split():
        (tmp_path / name).mkdir()
    found = splits.find(tmp_path)
    assert found == {split: tmp_path / name for split, name in expected.items()}


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("Train training test", "has Train and training, which both stand for train"),
        ("train val valid", "has val and valid, which both stand for val"),
        ("test", "has no folder train next to test; rename"),
        ("val Test", "has no folder train next to Test and val; rename"),
        ("train test cat", "has train and test, but also cat; move classes"),
    ],
)
def test_unclear_splits_are_refused(tmp_path, folders, message):
    for name in folders.split():
        (tmp_path / name).mkdir()
    if len(list(tmp_path.iterdir())) < len(folders.split()):
        pytest.skip("this file system does not tell upper from lower case")
    with pytest.raises(UserError, match=message):
        splits.find(tmp_path)


@pytest.mark.parametrize(
    ("files", "root"),
    [
        (["cat/1.png", "dog/1.png"], "."),
        (["cat/1.png"], "."),
        (["train/1.png", "labels.csv"], "."),
        (["images/1.png"], "."),
        (["train/images/1.png"], "."),
        (["data/cat/1.png", "data/dog/1.png", "readme.txt"], "data"),
        (["data/train/cat/1.png", "__MACOSX/data/x", ".git/x"], "data/train"),
        (["data/train/1.png", "data/test/1.png"], "data"),
        (["train/cat/1.png"], "train"),
        (["cat/1.png", "cat/more/2.png"], "."),
    ],
)
def test_the_only_folder_is_looked_into(tmp_path, files, root):
    assert splits.find_root(write(tmp_path, *files)) == tmp_path / root


def test_a_folder_in_itself_is_not_followed_forever(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path)
    assert splits.find_root(tmp_path).name == "a"
