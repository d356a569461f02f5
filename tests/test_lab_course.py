"""Tests that the lab has the examples and the words of the course's slides."""

import re

from test_lab import NARROW, PAGES, each_language, networks, read, rows

from cifar_jax import Config
from experiments.course import convolution

# Their codes, as on the slide.
KINDS_OF_CAR = {
    "sedan": [1, 0, 0, 0, 0, 0],
    "pickup": [0, 1, 0, 0, 0, 0],
    "SUV": [0, 0, 1, 0, 0, 0],
    "truck": [0, 0, 0, 1, 0, 0],
    "bus": [0, 0, 0, 0, 1, 0],
    "other": [0, 0, 0, 0, 0, 1],
}


@each_language
def test_the_kinds_of_car_have_the_codes_of_the_slide(language):
    assert convolution.one_hot()["car"] == KINDS_OF_CAR
    table = dict(row for row in rows(read(language, "3")) if len(row) == 2)
    names = {"other": "其他"} if language == "zh-TW" else {}
    for kind, code in KINDS_OF_CAR.items():
        (title,) = (x for x in table if names.get(kind, kind) in x)
        assert table[title] == " ".join(map(str, code))


@each_language
def test_the_networks_that_beat_larger_ones_are_all_named(language):
    top_1 = {name: float(cell) for name, _, cell, *_ in networks(language)}
    size = {name: float(cell) for name, cell, *_ in networks(language)}
    pairs = {(a, b) for a in size for b in size if size[a] < size[b]}
    won = {(a, b) for a, b in pairs if top_1[a] > top_1[b]}
    better = "xception", "inception_v3", "resnet50", "inception_resnet_v2"
    assert won == {(a, b) for a in better for b in ("vgg16", "vgg19")} | {
        ("xception", "inception_v3"),
        ("xception", "resnet50"),
        ("inception_v3", "resnet50"),
    }
    text = read(language, "2")
    answer = re.search(r"^2\. mobilenet(?s:.*?)</details>", text, re.M)[0]
    for name in better:
        assert name in answer
    share = {name: top_1[name] / size[name] for name in size}
    assert sorted(share, key=share.get)[:-3:-1] == ["mobilenet", "xception"]
    for name in ("mobilenet", "xception"):
        assert f"{top_1[name]:.3f} / {size[name]:g} = {share[name]:.3f}" in answer


@each_language
def test_the_factor_by_which_weight_decay_shrinks_a_weight(language):
    config = Config()
    rate, decay = config.learning_rate, config.weight_decay
    assert f"1 - {rate} x {decay} = {1 - rate * decay}" in read(language, "4")


# Words of the course, and how the lab explains them once.
GLOSSED = (
    "填充(padding,這裡補零)",
    "過適(overfitting,過度擬合)",
    "激勵函數(activation function,也譯作活化函數)",
    "廣義性(generalization,泛化能力)",
    "視窗(window)",
    "計算圖(graph)",
    "視覺幾何研究組(Visual Geometry Group)",
    "局部響應正規化(local response normalization)",
)


def test_words_of_the_course_are_explained_once():
    pages = "".join(read("zh-TW", name) for name in PAGES).translate(NARROW)
    for words in GLOSSED:
        assert pages.count(words) == 1, words


def test_pictures_with_english_words_are_explained_in_chinese():
    pages = "".join(read("zh-TW", name) for name in PAGES)
    pictures = re.findall(r"^!\[.*/(\w+)\.png\)\n\n(.*)$", pages, re.M)
    assert len(pictures) > 10
    for name, after in pictures:
        # These two show nothing but the names of layers.
        if name not in ("feature_maps", "feature_maps_kernels"):
            assert re.fullmatch("\\*圖.+\\*", after), name
