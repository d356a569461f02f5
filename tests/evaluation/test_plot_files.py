"""Tests that pictures are written atomically, and only over earlier ones."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cifar_jax import UserError
from cifar_jax.evaluation import plot_files

GENERATOR = "python -m cifar_jax.test"


@pytest.fixture
def figure():
    made = Figure(figsize=(2, 1))
    made.subplots().plot([1, 2])
    return made


@pytest.mark.parametrize("name", ["a.png", "a.SVG"])
def test_equal_figures_give_equal_files(figure, name, tmp_path):
    first, second = tmp_path / "new" / name, tmp_path / name
    for path in (first, second, second):
        plot_files.check(path, "plot", GENERATOR)
        plot_files.write(figure, path, "plot", GENERATOR)
    assert first.read_bytes() == second.read_bytes()
    if name.endswith("png"):
        with Image.open(first) as picture:
            assert picture.size == (220, 110)
    else:
        assert "<svg" in first.read_text()


def test_pictures_of_others_stay(figure, tmp_path):
    path = tmp_path / "a.png"
    plot_files.write(figure, path, "plot", GENERATOR)
    with pytest.raises(UserError, match=r"--plot=.*a.png was not written by another"):
        plot_files.check(path, "plot", "another")


def test_other_kinds_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--plot=.*a.jpg must end in .png or .svg"):
        plot_files.check(tmp_path / "a.jpg", "plot", GENERATOR)
