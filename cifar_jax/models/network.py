"""The base class of all networks."""

from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from flax.typing import Initializer
from jaxtyping import Array, Float, PyTree

from cifar_jax.models.block import Block


class Network(Block, kw_only=True):
    """A network: `__call__(images, train=False)` returns float32 logits.

    Fields that a subclass adds are its options: `--model="resnet18(width=32)"`. In
    training, it can draw from random streams such as "dropout", which are functions of
    the run's seed and the step (pmap draws differently than jit). Losses that it sows
    into the collection "losses" are added to the total.

    Attributes:
        num_classes: the number of logits.
        weight_decays: factor of the weight decay for each layer's kernels, 0 for layers
            that are not named; None to decay every kernel with factor 1.
        smallest_image: the smallest height and width of an image.
        images_for_init: the number of training images that `init_from_data` is given;
            0 to skip the call.
        classifier: the layers after those that compute features, in order. A run that
            starts from other weights reinitializes these layers from the first one
            whose shape differs.
    """

    num_classes: int = 10

    weight_decays: ClassVar[Mapping[str, float] | None] = None
    smallest_image: ClassVar[int] = 1
    images_for_init: ClassVar[int] = 0
    classifier: ClassVar[tuple[str, ...]] = ("predictions",)

    def init_from_data(
        self, variables: Mapping[str, PyTree], images: Float[Array, "n h w c"]
    ) -> Mapping[str, PyTree]:
        """Returns initial variables that depend on the training images.

        Whitening the first layer's inputs is an example.

        Args:
            variables: the randomly initialized variables.
            images: training images, preprocessed as for evaluation.
        """
        return variables

    def predictions(
        self, x: Float[Array, "n c"], kernel_init: Initializer, use_bias: bool = True
    ) -> Float[Array, "n classes"]:
        """Returns the logits, computed by a dense layer named predictions."""
        head = self.dense(
            self.num_classes, "predictions", use_bias=use_bias, kernel_init=kernel_init
        )
        return self.tap("predictions", head(x)).astype(jnp.float32)
