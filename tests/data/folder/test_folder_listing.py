import os
import pathlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_jax import UserError
from cifar_jax.data.folder import draw
from cifar_jax.data.folder.listing import Listing, find


def write(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    return directory


def names(pictures):
    return [picture.name for picture in pictures]


def test_a_folder_for_each_class(tmp_path):
    write(tmp_path, "cat/1.png", "cat/2.png", "ant/3.jpg", "ant/0.gif")
    found = find(tmp_path)
    assert found.class_names == ("ant", "cat")
    assert found.drawn
    assert found.validation == ()
    everything = sorted(names(found.train + found.test))
    assert everything == ["ant/0.gif", "ant/3.jpg", "cat/1.png", "cat/2.png"]
    labels = {p.name: p.label for p in found.train + found.test}
    assert labels["ant/0.gif"] == 0
    assert labels["cat/1.png"] == 1


@pytest.mark.parametrize("second", ["test", "val"])
def test_folders_of_training_and_test_pictures(tmp_path, second):
    write(tmp_path, "train/b/1.png", "train/a/2.png", f"{second}/b/1.png")
    found = find(tmp_path)
    assert names(found.train) == ["train/b/1.png", "train/a/2.png"]
    assert names(found.test) == [f"{second}/b/1.png"]
    assert found.test[0].label == 1
    assert found.validation == ()
    assert not found.drawn


def test_a_third_folder_has_the_validation_pictures(tmp_path):
    write(tmp_path, "train/a/1.png", "test/a/2.png", "val/a/3.png")
    found = find(tmp_path)
    assert (names(found.test), names(found.validation)) == (
        ["test/a/2.png"],
        ["val/a/3.png"],
    )
    with pytest.raises(UserError, match=r"validation_size=1 .*val; leave it out"):
        find(tmp_path, validation_size=1)


def test_pictures_are_in_the_order_of_their_names_whatever_their_class(tmp_path):
    write(tmp_path, "train/b/1.png", "train/a/2.png", "train/b/3.png", "test/a/1.png")
    assert names(find(tmp_path).train) == [
        "train/b/1.png",
        "train/a/2.png",
        "train/b/3.png",
    ]


def test_a_fifth_of_each_class_is_drawn_for_testing(tmp_path):
    write(tmp_path, *(f"{c}/{i}.png" for c, n in SIZES.items() for i in range(n)))
    found = find(tmp_path)
    count = Counter(found.class_names[p.label] for p in found.test)
    assert count == {"two": 1, "four": 1, "ten": 2, "fourteen": 2}
    assert find(tmp_path) == found
    assert find(tmp_path, split_seed=1).test != found.test


SIZES = {"one": 1, "two": 2, "four": 4, "ten": 10, "fourteen": 14}


def test_the_draw_hardly_changes_when_a_picture_is_added(tmp_path):
    write(tmp_path, *(f"a/{i}.png" for i in range(100)))
    before = set(names(find(tmp_path).test))
    write(tmp_path, "a/new.png")
    assert len(before ^ set(names(find(tmp_path).test))) <= 2


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 99),
)
def test_validation_pictures_are_drawn_from_each_class_in_proportion(
    sizes, share, seed
):
    pictures = [
        draw.Picture(path=pathlib.Path(), name=f"{label}/{i}", label=label)
        for label, count in enumerate(sizes)
        for i in range(count)
    ]
    free = sum(sizes) - len(sizes)
    size = max(1, round(share * free))
    if size > free:
        with pytest.raises(UserError, match="one of each class must stay"):
            draw.split_off_validation(pictures, size, seed)
        return
    train, held_out = draw.split_off_validation(pictures, size, seed)
    assert len(held_out) == size
    assert sorted(train + held_out, key=pictures.index) == pictures
    assert {p.label for p in train} == set(range(len(sizes)))
    count = Counter(p.label for p in held_out)
    for label, total in enumerate(sizes):
        assert abs(count[label] - size * (total - 1) / free) < 1


def test_files_that_are_not_pictures_are_ignored_and_counted(tmp_path):
    write(
        tmp_path,
        *("a/1.png", "a/2.PNG", "a/no_suffix", "a/notes.txt", "a/Thumbs.db"),
        *("a/.hidden.png", ".git/x.png", "loose.png"),
    )
    found = find(tmp_path)
    assert sorted(names(found.train + found.test)) == [
        "a/1.png",
        "a/2.PNG",
        "a/no_suffix",
    ]
    assert found.ignored == {".txt": 1, ".db": 1}
    assert found.remarks == (
        f"1 pictures in {tmp_path} are in no class folder; not used.",
        "There is only one class, 'a', so every network is always right.",
    )


def test_symbolic_links_are_followed(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", "1.png", "2.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(elsewhere)
    write(tmp_path / "data", "dog/1.png")
    (tmp_path / "data" / "dog" / "2.png").symlink_to(elsewhere / "2.png")
    found = find(tmp_path / "data")
    assert isinstance(found, Listing)
    assert sorted(names(found.train + found.test)) == [
        *("cat/1.png", "cat/2.png"),
        *("dog/1.png", "dog/2.png"),
    ]


def test_accents_are_the_same_on_every_system(tmp_path):
    write(tmp_path, "cafe\u0301/1.png", "cafe\u0301/2.png", "貓/1.png", "貓/2.png")
    assert find(tmp_path).class_names == ("caf\u00e9", "貓")


REFUSED = {
    "an empty folder": ([], "has no pictures in sub-folders"),
    "no classes": (["1.png"], "has no pictures in sub-folders"),
    "an empty class": (["a/1.png", "a/2.png", "b/x.txt"], "b contains no pictures"),
    "one picture": (["a/1.png"], "has no test pictures"),
    "a folder too deep": (["a/b/1.png", "c/1.png"], "has a folder b; set --data_dir"),
    "more than splits": (
        ["train/a/1.png", "test/a/1.png", "cat/1.png"],
        "also cat; move classes",
    ),
    "a class without training pictures": (
        ["train/a/1.png", "test/b/1.png"],
        "b is a class without training pictures",
    ),
    "no test pictures": (["train/a/1.png", "test/a/x.txt"], "has no test pictures"),
    "pictures and masks": (
        ["images/1.png", "images/2.png", "Masks/1.png", "Masks/2.png"],
        "has Masks and images, which name no classes",
    ),
    "pictures and boxes": (
        ["train/images/1.png", "train/labels/1.txt", "valid/images/1.png"],
        "train has images and labels, which name no classes",
    ),
    "a line break": (["a\nb/1.png"], "cannot name a class"),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_other_layouts_are_refused(tmp_path, files, message):
    write(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        find(tmp_path)


def test_a_class_name_that_is_not_unicode_is_refused(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff"
    try:
        os.mkdir(folder)  # noqa: PTH102
    except OSError:
        pytest.skip("this file system has only Unicode names")
    with pytest.raises(UserError, match="cannot name a class"):
        find(tmp_path)
