"""Layouts in which files have the labels: Kaggle's and that of Tiny ImageNet."""

import pytest

from cifar_jax import UserError
from cifar_jax.data.folder.listing import find

IDS = range(1, 13)


def label(i):
    return "cat" if i % 2 else "dog"


def write(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return directory


def table(header="id,label\n", ids=IDS, suffix="", between=","):
    return header + "".join(f"{i}{suffix}{between}{label(i)}\n" for i in ids)


@pytest.fixture
def kaggle(tmp_path):
    """Twelve training pictures and five without labels, whose ids are the same."""
    write(tmp_path, *(f"train/{i}.png" for i in IDS))
    write(tmp_path, *(f"test/{i}.png" for i in range(1, 6)))
    sample = "".join(f"{i},cat\n" for i in range(1, 300))
    (tmp_path / "sampleSubmission.csv").write_text("id,label\n" + sample)
    return tmp_path


def labels(found, pictures):
    return {p.path.stem: found.class_names[p.label] for p in pictures}


TABLES = {
    "ids": ("trainLabels.csv", table()),
    "file names": ("train.csv", table("image,breed\n", suffix=".png")),
    "paths": ("labels.csv", "".join(f"train/{i}.png,{label(i)}\n" for i in IDS)),
    "semicolons": ("labels.csv", "\ufeff" + table("id;label\n", between=";")),
    "tabs": ("train_labels.tsv", table("", between="\t")),
    "in the folder": ("train/labels.csv", table()),
}


@pytest.mark.parametrize(("file", "text"), TABLES.values(), ids=TABLES)
def test_labels_in_a_table(kaggle, file, text):
    (kaggle / file).write_text(text, encoding="utf-8")
    found = find(kaggle)
    assert found.class_names == ("cat", "dog")
    expected = {str(i): label(i) for i in IDS}
    assert labels(found, found.train + found.test) == expected
    assert (len(found.train), len(found.test), found.drawn) == (10, 2, True)
    assert [p.name for p in found.train if p.path.stem == "12"] == ["train/12.png"]
    (remark,) = found.remarks
    assert f"The 5 pictures in {kaggle / 'test'} have no labels" in remark


def test_test_pictures_with_labels_of_their_own(kaggle):
    (kaggle / "trainLabels.csv").write_text(table())
    (kaggle / "testLabels.csv").write_text("id,label\n" + "4,cat\n" * 1)
    with pytest.raises(
        UserError, match=r"no labels for 4 of 5 pictures \(1.png, 2.png"
    ):
        find(kaggle)
    rows = "".join(f"{i},cat\n" for i in range(1, 6))
    (kaggle / "testLabels.csv").write_text("id,label\n" + rows)
    found = find(kaggle)
    assert set(labels(found, found.test).values()) == {"cat"}
    assert (len(found.train), len(found.test), found.remarks) == (12, 5, ())


def test_a_folder_and_a_table_beside_it(tmp_path):
    write(tmp_path, *(f"images/{i}.png" for i in IDS))
    (tmp_path / "labels.csv").write_text(table())
    found = find(tmp_path)
    assert labels(found, found.train + found.test)["7"] == "cat"


def test_lines_without_pictures_are_told(kaggle):
    (kaggle / "trainLabels.csv").write_text(table(ids=range(1, 16)))
    found = find(kaggle)
    assert "3 lines of" in found.remarks[0]
    assert len(found.train) + len(found.test) == 12


REFUSED = {
    "none": (table("id,label,x\n"), r"12 are directly in it.*trainLabels.csv"),
    "other ids": (table(ids=range(50, 60)), "12 are directly in it"),
    "missing": (table(ids=range(1, 12)), r"no labels for 1 of 12 pictures \(12.png\)"),
    "empty": (table(ids=range(1, 12)) + "12,\n", "no labels for 1 of 12"),
    "two labels": (table() + "1,dog\n", "two labels for 1: cat, dog"),
    "a control character": (table(ids=range(2, 13)) + '1,"a\nb"\n', "name a class"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_unusable_tables_are_refused(kaggle, text, message):
    (kaggle / "trainLabels.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        find(kaggle)


def test_an_unreadable_table_is_refused(kaggle):
    (kaggle / "trainLabels.csv").write_bytes(b"id,label\n1,\xe9\n")
    with pytest.raises(UserError, match="save it as CSV in UTF-8"):
        find(kaggle)


def test_tables_that_contradict_each_other_are_refused(kaggle):
    (kaggle / "trainLabels.csv").write_text(table())
    (kaggle / "labels.csv").write_text(table())
    assert find(kaggle).class_names == ("cat", "dog")
    (kaggle / "labels.csv").write_text(table().replace("cat", "lion"))
    with pytest.raises(UserError, match=r"labels.csv and .*trainLabels.csv have diff"):
        find(kaggle)


@pytest.fixture
def tiny_imagenet(tmp_path):
    for wnid in ("n02", "n01"):
        write(tmp_path, *(f"t/train/{wnid}/images/{wnid}_{i}.JPEG" for i in range(3)))
        (tmp_path / "t" / "train" / wnid / f"{wnid}_boxes.txt").write_text("x\t0\t1\n")
    write(tmp_path, *(f"t/val/images/val_{i}.JPEG" for i in range(4)))
    rows = [f"val_{i}.JPEG\tn0{1 + i % 2}\t0\t0\t9\t9\n" for i in range(4)]
    (tmp_path / "t" / "val" / "val_annotations.txt").write_text("".join(rows))
    write(tmp_path, *(f"t/test/images/test_{i}.JPEG" for i in range(4)))
    (tmp_path / "t" / "wnids.txt").write_text("n01\nn02\n")
    (tmp_path / "t" / "words.txt").write_text("n01\tcat, feline\nn02\tdog\n")
    return tmp_path


def test_tiny_imagenet(tiny_imagenet):
    found = find(tiny_imagenet)
    assert found.class_names == ("n01", "n02")
    assert len(found.train) == 6
    assert labels(found, found.test) == {f"val_{i}": f"n0{1 + i % 2}" for i in range(4)}
    assert all(found.class_names[p.label] in p.name for p in found.train)
    assert "The 4 pictures in" in found.remarks[0]
    assert not found.drawn


def test_a_class_only_of_the_second_split_is_refused(tiny_imagenet):
    file = tiny_imagenet / "t" / "val" / "val_annotations.txt"
    file.write_text(file.read_text().replace("n02", "n09"))
    with pytest.raises(UserError, match=r"'n09' in .* without training pictures"):
        find(tiny_imagenet)
