"""Tests the picture of predictions by what is in the figure."""

import numpy as np

from cifar_jax.evaluation.prediction_plot import Prediction, draw


def prediction(name: str, classes: int) -> Prediction:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    chances = {f"class ${i}$": 2.0**-i for i in range(1, classes + 1)}
    return Prediction(name, image, chances, image[..., 0] / 255)


def test_each_picture_has_its_map_and_its_bars():
    figure = draw([prediction("a.png", 10), prediction("dir/" * 9 + "b$.png", 2)], 3)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "a.png"
    assert titles[1] == titles[4] == "what class $1$ depends on"
    assert titles[3] == "...ir/dir/dir/dir/b$.png"
    bars = [axis.containers for axis in figure.axes]
    assert [len(b[0]) for b in bars if b] == [3, 2]
    assert [bar.get_width() for bar in bars[2][0]] == [1 / 2, 1 / 4, 1 / 8]
    figure.canvas.draw()


def test_the_map_is_drawn_over_the_picture():
    one = prediction("a.png", 1)
    left, middle, _ = draw([one], 3).axes
    np.testing.assert_array_equal(left.images[0].get_array(), one.image)
    np.testing.assert_array_equal(middle.images[1].get_array(), one.saliency)
