"""How Keras trained its networks on ImageNet, and the class names."""

import importlib.resources
from typing import NamedTuple

from cifar_jax.errors import UserError


class Inputs(NamedTuple):
    """The inputs that a network was trained on.

    Attributes:
        size: their height and width.
        normalization: one of `cifar_jax.data.normalization.NORMALIZATIONS`.
    """

    size: int
    normalization: str


# From the modules of keras.applications.
INPUTS = {
    "vgg16": Inputs(224, "caffe"),
    "vgg19": Inputs(224, "caffe"),
    "resnet50": Inputs(224, "caffe"),
    "mobilenet": Inputs(224, "tf"),
    "inception_v3": Inputs(299, "tf"),
    "xception": Inputs(299, "tf"),
    "inception_resnet_v2": Inputs(299, "tf"),
}


def inputs(model: str) -> Inputs:
    """Returns the inputs that Keras trained a network on.

    Raises:
        UserError: Keras has no such network.
    """
    if model not in INPUTS:
        raise UserError(
            f"--model={model} is not a Keras network; choose from {', '.join(INPUTS)}"
        )
    return INPUTS[model]


def class_names(count: int) -> tuple[str, ...]:
    """Returns the names of the 1,000 classes, as in Keras's decode_predictions.

    There, two names are each given to two classes; here, the second class of each has
    an addition in parentheses.

    Args:
        count: the number of classes; if it is not 1,000, the names are numbers.
    """
    path = importlib.resources.files(__package__) / "imagenet_classes.txt"
    names = tuple(path.read_text(encoding="utf-8").split())
    return names if count == len(names) else tuple(map(str, range(count)))
