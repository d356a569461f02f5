"""CIFAR-100: 100 classes, or the 20 groups of five that they form."""

import os

from cifar_jax.data.cifar import batch_files
from cifar_jax.data.cifar import source as cifar
from cifar_jax.data.cifar.download import Download
from cifar_jax.data.cifar.published import (
    HOME_PAGE,
    Labels,
    Layout,
    Part,
    Published,
    RecordsMD5,
)
from cifar_jax.data.dataset import Dataset
from cifar_jax.errors import UserError

# The groups, and the classes of each, are numbered in alphabetical order.
GROUPS = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": (
        *("clock", "keyboard", "lamp", "telephone", "television"),
    ),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": (
        *("bridge", "castle", "house", "road", "skyscraper"),
    ),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": (
        *("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    ),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
_FINE = tuple(sorted(name for group in GROUPS.values() for name in group))
# Keyed by the values of --labels, in the order of the binary records.
LABELS = {
    "coarse": Labels("coarse_labels", "coarse_label", tuple(GROUPS)),
    "fine": Labels("fine_labels", "label", _FINE),
}
CIFAR100 = Published(
    name="cifar100",
    title="CIFAR-100",
    train=(Part("train", 50_000),),
    test=(Part("test", 10_000),),
    labels=tuple(LABELS.values()),
    layouts=(
        Layout("cifar-100-binary.tar.gz", "cifar-100-binary", batch_files.BINARY),
        Layout("cifar-100-python.tar.gz", "cifar-100-python", batch_files.PYTHON),
        Layout("cifar-100-matlab.tar.gz", "cifar-100-matlab", batch_files.MATLAB),
    ),
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    size=168_513_733,
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    # The official python archive on PaddlePaddle's server.
    mirrors=(
        Download(
            url="https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
            size=169_001_437,
            sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            name="cifar-100-python.tar.gz",
            title="CIFAR-100",
            home_page=HOME_PAGE,
        ),
    ),
    # Of train.bin and test.bin.
    official=RecordsMD5(
        "6172c7755cfe09b2fe270c85cebc1b15", "4499cfba6c016c1be1438163640a0898"
    ),
)


def load(data_dir: str | os.PathLike[str] | None, labels: str = "fine") -> Dataset:
    """Loads CIFAR-100, which is found or downloaded like CIFAR-10.

    Args:
        data_dir: see `cifar.load`.
        labels: "fine" for the 100 classes, or "coarse" for their 20 groups.

    Raises:
        UserError: an argument is invalid, the data on disk are damaged, or CIFAR-100
            is neither on disk nor reachable.
        RunError: downloading or preparing the data failed midway.
    """
    if not isinstance(labels, str) or labels not in LABELS:
        raise UserError(
            f"--labels={labels} is unknown; choose from {', '.join(LABELS)}"
        )
    return cifar.load(CIFAR100, data_dir, LABELS[labels])
