"""The hyperparameters of cuda-convnet's 18% network that Bayesian search varies.

The nine hyperparameters are those of Snoek, Larochelle and Adams, "Practical Bayesian
optimization of machine learning algorithms", 2012, section 4.4. The paper does not give
their ranges. Wherever possible, these are centered, on a logarithmic scale, on the
values published with the network.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Array, Float

from cifar_jax import Config, models
from cifar_jax.models.cuda_convnet import CudaConvnet18pct
from cifar_jax.ops import local_response_norm

# The hyperparameters' values, by name.
Setting = Mapping[str, float]
# Their positions in their ranges, from 0 to 1.
Point = Mapping[str, float]

_LAYERS = ("conv1", "conv2", "conv3", "logits")


class Range(NamedTuple):
    """The range of a hyperparameter.

    Attributes:
        low: The lowest value.
        high: The highest value.
        is_log: Whether the logarithms of the values are evenly spread.
        is_integer: Whether the values are whole numbers.
    """

    low: float
    high: float
    is_log: bool = True
    is_integer: bool = False

    def value(self, place: float) -> float:
        """Returns the value at a position from 0 to 1."""
        if self.is_integer:
            # Each integer gets an equal part of the range.
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
    # Squares of 1x1 to 9x9 pixels.
    "lrn_radius": Range(0, 4, is_integer=True),
    "lrn_scale": Range(5e-7, 5e-3),
    "lrn_power": Range(0.25, 1.25, is_log=False),
    # Fraction of a trial's steps; the paper varies the number of epochs.
    "length": Range(0.5, 1.0, is_log=False),
}
# The values in cuda-convnet's files.
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
    """Returns the config of a run with a setting, and registers its network.

    Args:
        setting: The hyperparameters.
        max_steps: The steps of the longest run.
        changes: Changes to other settings.
    """
    name = "searched"
    models.MODELS[name] = _network(setting)
    return Config(
        recipe="cuda_convnet_18pct",
        model=name,
        max_steps=max(1, round(setting["length"] * max_steps)),
        learning_rate=setting["learning_rate"],
        # The network's layers have the weight decays as their factors.
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
                # cuda-convnet divides by the number of pixels in the square.
                alpha=setting["lrn_scale"] / (2 * radius + 1) ** 2,
                beta=setting["lrn_power"],
                axis=(0, 1),
                implementation=self.ops,
            )

    return Searched
