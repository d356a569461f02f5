"""What are the layers of a network, and which networks are available?

    python -m experiments.course.layers --model=vgg16

Prints each layer of any network with its output and parameters, like Keras's summary();
layers without parameters, such as pooling, are not listed. Without --model, prints the
available networks from Keras Applications: the number of their parameters, the size of
these in float32, and the ImageNet accuracy reported by Keras. Takes a few seconds.
"""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from cifar_jax import Config, Network, UserError, models
from cifar_jax.config.recipes import RECIPES
from cifar_jax.models.keras import imagenet
from experiments.harness import common, output

# Top-1 and top-5 accuracy on ImageNet's validation images, from the 2018 documentation
# of Keras Applications, which the course quotes.
ACCURACIES = {
    "xception": (0.790, 0.945),
    "vgg16": (0.715, 0.901),
    "vgg19": (0.727, 0.910),
    "resnet50": (0.759, 0.929),
    "inception_v3": (0.788, 0.944),
    "inception_resnet_v2": (0.804, 0.953),
    "mobilenet": (0.665, 0.871),
}
FLAGS = flags.FLAGS


def summary(model: str, num_classes: int | None, image_size: int) -> str:
    """Returns a table of a network's layers, and its numbers of parameters.

    Args:
        model: The network, as in --model.
        num_classes: The number of logits; None for the network's default.
        image_size: The height and width of the images.

    Raises:
        UserError: images of this size are too small.
    """
    network = models.create(model, num_classes)
    if image_size < network.smallest_image:
        raise UserError(
            f"--image_size={image_size} is too small for --model={model}; pass at "
            f"least {network.smallest_image}"
        )
    variables, outputs = shapes(network, image_size, images=1)
    # The batch axis, which is not always the first one, is left out.
    _, of_two = shapes(network, image_size, images=2)
    counts = Counter[str]()
    for path, leaf in flatten_dict(variables, sep="/").items():
        counts[path.split("/", 1)[1].rpartition("/")[0]] += leaf.size
    rows = []
    for layer, (kind, shape) in outputs.items():
        if layer in counts:
            axes = zip(shape, of_two[layer][1], strict=True)
            size = "x".join(str(axis) for axis, other in axes if axis == other)
            rows.append((f"{layer} ({kind})", size, f"{counts[layer]:,}"))
    trained = count(variables["params"])
    return "\n".join(
        [
            output.table(("layer", "output", "parameters"), rows),
            f"Total params: {count(variables):,}",
            f"Trainable params: {trained:,}",
            f"Non-trainable params: {count(variables) - trained:,}",
        ]
    )


def shapes(
    network: Network, image_size: int, images: int
) -> tuple[dict[str, PyTree], dict[str, tuple[str, tuple[int, ...]]]]:
    """Returns the shapes of a network's variables, and its layers' types and shapes.

    Nothing is computed. Layers are in the order in which they are applied.

    Args:
        network: The network.
        image_size: The height and width of the images.
        images: The number of images.
    """
    layers = {}

    def keep(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        found = call(*args, **kwargs)
        if context.method_name == "__call__":
            layer = "/".join(context.module.path)
            layers[layer] = type(context.module).__name__, found.shape
        return found

    batch = jax.ShapeDtypeStruct((images, image_size, image_size, 3), jnp.float32)
    with nn.intercept_methods(keep):
        variables = jax.eval_shape(network.init, jax.random.key(0), batch)
    return variables, layers


def count(variables: PyTree) -> int:
    """Returns the total number of values."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def usual_size(model: str) -> int:
    """Returns the image size that a network is made for."""
    if model in imagenet.INPUTS:
        return imagenet.inputs(model).size
    # Recipes are named after their networks; the others take whole images.
    return Config(recipe=model).image_size if model in RECIPES else 32


def networks() -> list[tuple[str, str, str, str, str]]:
    """Returns a row for each network from Keras Applications.

    It has the name, the size in megabytes of 2^20 bytes, top-1 and top-5 accuracy, and
    the number of parameters, including BatchNorm's running averages, as in Keras.
    """
    rows = []
    for name, (top_1, top_5) in ACCURACIES.items():
        variables, _ = shapes(models.create(name), usual_size(name), images=1)
        total = count(variables)
        size = f"{total * 4 / 2**20:.0f}"
        rows.append((name, size, f"{top_1:.3f}", f"{top_5:.3f}", f"{total:,}"))
    return rows


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_enum("model", None, list(models.MODELS), "Network to describe.")
    flags.DEFINE_integer(
        "image_size", None, "Height and width of the images; default: the network's."
    )
    flags.DEFINE_integer(
        "num_classes", None, "Number of classes; default: the network's.", lower_bound=1
    )


def main(argv: list[str]) -> None:
    """Prints a table."""
    del argv
    if FLAGS.model:
        size = FLAGS.image_size or usual_size(FLAGS.model)
        print(summary(FLAGS.model, FLAGS.num_classes, size))
    else:
        header = ("network", "MB", "top-1", "top-5", "parameters")
        print(output.table(header, networks()))


if __name__ == "__main__":
    common.run(main, define_flags)
