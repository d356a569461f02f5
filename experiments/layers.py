"""What are the layers of a network, and which networks are there?

    python -m experiments.layers --model=vgg16

Prints each layer with its output and its parameters, as Keras's summary() does; pooling
has none, so it is not listed. Without --model, prints the networks of Keras
Applications that are here: their parameters, counted, the size of these in float32, and
what Keras says of their accuracy on ImageNet. Takes a few seconds.
"""

import jax
import jax.numpy as jnp
from absl import flags

from cifar_jax import Config, UserError, models
from cifar_jax.config.recipes import RECIPES
from cifar_jax.models import imagenet
from experiments import common, output

# Top-1 and top-5 accuracy on ImageNet's validation images, in the documentation of
# Keras Applications of 2018, which the course quotes.
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


def layers(model: str, num_classes: int | None, image_size: int) -> str:
    """Returns the layers of a network as a table.

    Args:
        model: one of the networks of --model.
        num_classes: number of logits; None for the network's default.
        image_size: height and width of the images.

    Raises:
        UserError: there is no such network, or images of this size are too small.
    """
    network = models.create(model, num_classes)
    if image_size < network.smallest_image:
        raise UserError(
            f"--image_size={image_size} must be at least {network.smallest_image}, "
            f"which --model={model} needs"
        )
    images = jnp.zeros((1, image_size, image_size, 3))
    console = {"width": 120, "force_terminal": False, "color_system": None}
    return network.tabulate(jax.random.key(0), images, depth=1, console_kwargs=console)


def usual_size(model: str) -> int:
    """Returns the size of images that a network is made for."""
    if model in imagenet.INPUTS:
        return imagenet.inputs(model).size
    # Recipes have the names of their networks; the others are for whole images.
    return Config(recipe=model).image_size if model in RECIPES else 32


def networks() -> list[tuple[str, str, str, str, str]]:
    """Returns a row for each network of Keras Applications.

    It has the name, the megabytes of 2^20 bytes, top-1 and top-5 accuracy, and the
    number of parameters, with BatchNorm's running averages, as Keras counts them.
    """
    rows = []
    for name, (top_1, top_5) in ACCURACIES.items():
        count = parameters(name)
        size = f"{count * 4 / 2**20:.0f}"
        rows.append((name, size, f"{top_1:.3f}", f"{top_5:.3f}", f"{count:,}"))
    return rows


def parameters(model: str) -> int:
    """Returns the number of a network's parameters and running averages."""
    size = imagenet.inputs(model).size
    shapes = jax.eval_shape(
        models.create(model).init, jax.random.key(0), jnp.zeros((1, size, size, 3))
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def define_flags() -> None:
    """Defines the flags of this experiment."""
    flags.DEFINE_enum("model", None, list(models.MODELS), "The network to look into.")
    flags.DEFINE_integer(
        "image_size", None, "Height and width of the images. Default: the network's."
    )
    flags.DEFINE_integer("num_classes", None, "Default: the network's.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Prints a table."""
    del argv
    if FLAGS.model:
        size = FLAGS.image_size or usual_size(FLAGS.model)
        print(layers(FLAGS.model, FLAGS.num_classes, size))
    else:
        header = ("network", "MB", "top-1", "top-5", "parameters")
        print(output.table(header, networks()))


if __name__ == "__main__":
    common.run(main, define_flags)
