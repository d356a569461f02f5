"""What Bayesian search varies of cuda-convnet's network with 18% test error.

The nine hyperparameters are those of Snoek, Larochelle and Adams, "Practical Bayesian
optimization of machine learning algorithms", 2012, section 4.4. The paper does not give
their ranges; these are centered, on a logarithmic scale, on what was published with the
network wherever that is possible.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Array, Float

from cifar_jax import Config, models
from cifar_jax.models.cuda_convnet import CudaConvnet18pct
from cifar_jax.ops import local_response_norm

# A hyperparameter's value by its name; or its place in its range, from 0 to 1.
Setting = Mapping[str, float]
Point = Mapping[str, float]

_LAYERS = ("conv1", "conv2", "conv3", "logits")


class Range(NamedTuple):
    """The values of a hyperparameter.

    Attributes:
        low: the lowest one.
        high: the highest one.
        is_log: whether they are spread evenly by their logarithms.
        is_integer: whether they are whole numbers.
    """

    low: float
    high: float
    is_log: bool = True
    is_integer: bool = False

    def value(self, place: float) -> float:
        """Returns the value at a place from 0 to 1."""
        if self.is_integer:
            # Each number has an equal part of the range.
            count = int(self.high - self.low) + 1
            return self.low + min(int(place * count), count - 1)
        if self.is_log:
            low, high = math.log(self.low), math.log(self.high)
            return math.exp(low + place * (high - low))
        return self.low + place * (self.high - self.low)


SPACE = {
    "learning_rate": Range(1e-5, 1e-1),
    "weight_decay_conv1": Range(4e-5, 4e-1),
    "weight_decay_conv2": Range(4e-5, 4e-1),
    "weight_decay_conv3": Range(4e-5, 4e-1),
    "weight_decay_logits": Range(1e-2, 1e2),
    # Of the squares of 1x1 to 9x9 pixels.
    "lrn_radius": Range(0, 4, is_integer=True),
    "lrn_scale": Range(5e-7, 5e-3),
    "lrn_power": Range(0.25, 1.25, is_log=False),
    # Of the steps that a trial may take; the paper's is the number of epochs.
    "length": Range(0.5, 1.0, is_log=False),
}
# Those in cuda-convnet's files.
PUBLISHED: Setting = {
    "learning_rate": 1e-3,
    "weight_decay_conv1": 4e-3,
    "weight_decay_conv2": 4e-3,
    "weight_decay_conv3": 4e-3,
    "weight_decay_logits": 1.0,
    "lrn_radius": 1,
    "lrn_scale": 5e-5,
    "lrn_power": 0.75,
    "length": 1.0,
}


def setting(point: Point) -> Setting:
    """Returns the values at a point of the unit cube."""
    return {name: values.value(point[name]) for name, values in SPACE.items()}


def config(setting: Setting, max_steps: int, **changes: Any) -> Config:
    """Returns the config of a training with a setting, and registers its network.

    Args:
        setting: the values.
        max_steps: the steps of the longest training.
        changes: of other settings.
    """
    name = "searched"
    models.MODELS[name] = _network(setting)
    return Config(
        recipe="cuda_convnet_18pct",
        model=name,
        max_steps=max(1, round(setting["length"] * max_steps)),
        learning_rate=setting["learning_rate"],
        # The factors of the network's layers are the weight decays themselves.
        weight_decay=1.0,
        **changes,
    )


def _network(setting: Setting) -> type[CudaConvnet18pct]:
    """Returns the network with the weight decays and the LRN of a setting."""
    radius = int(setting["lrn_radius"])

    class Searched(CudaConvnet18pct):
        weight_decays: ClassVar[Mapping[str, float]] = {
            layer: setting[f"weight_decay_{layer}"] for layer in _LAYERS
        }

        def norm(self, x: Float[Array, "h w c n"]) -> Float[Array, "h w c n"]:
            return local_response_norm(
                x,
                depth_radius=radius,
                # cuda-convnet divides by the number of pixels of the square.
                alpha=setting["lrn_scale"] / (2 * radius + 1) ** 2,
                beta=setting["lrn_power"],
                axis=(0, 1),
                implementation=self.ops,
            )

    return Searched
