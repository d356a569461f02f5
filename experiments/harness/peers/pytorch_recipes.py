"""Recipes of cifar_jax in PyTorch, most with a constant learning rate."""

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        decays: Weight decay by layer name; "" is for all other kernels.
        decay_in_loss: Whether the loss includes the weight decay, as in the tutorial;
            otherwise, the optimizer adds it to the gradients.
        bias_decay: Weight decay of biases, times their learning rate factor.
        scale_decay: Weight decay of BatchNorm's scales.
        rates: Learning rate factors by suffix of the parameter name; the first match
            counts, and other parameters have 1.
        schedule: Learning rate factors by fraction of the run, with linear
            interpolation in between.
        until: Fraction of the run after which a parameter is frozen, by its name.
        label_smoothing: Share of the targets that is spread over all classes.
        reduction: "sum" or "mean" of the losses in a batch. Learning rates always refer
            to the mean.
        lookahead: Whether slow weights follow the parameters.
        ema_decay: Upper limit of the decay of the moving averages; 0 for no averages.
        size: Height and width of the network's inputs.
        padding: Pixels added on each side of an image before it is cropped.
        padding_mode: "constant" to add black pixels, "reflect" to add mirrored ones.
        random: Whether crops are random, and half of them flipped.
        alternate: Whether each image is instead flipped in every other epoch.
        normalization: "image", "channel" or "mean_image".
    """

    learning_rate: float
    decays: dict[str, float]
    decay_in_loss: bool = False
    momentum: float = 0.9
    nesterov: bool = False
    bias_decay: float = 0.0
    scale_decay: float = 0.0
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    schedule: dict[float, float] = dataclasses.field(default_factory=lambda: {0.0: 1.0})
    until: dict[str, float] = dataclasses.field(default_factory=dict)
    label_smoothing: float = 0.0
    reduction: str = "mean"
    lookahead: bool = False
    ema_decay: float = 0.0
    size: int = 32
    padding: int = 0
    padding_mode: str = "constant"
    random: bool = True
    alternate: bool = False
    normalization: str = "mean_image"


LONG = Recipe(
    learning_rate=0.1,
    decays={"": 5e-4},
    bias_decay=5e-4,
    scale_decay=5e-4,
    padding=4,
    normalization="channel",
)
RECIPES = {
    "tutorial": Recipe(
        learning_rate=0.1,
        decays={"local3": 0.004, "local4": 0.004},
        decay_in_loss=True,
        momentum=0.0,
        ema_decay=0.9999,
        size=24,
        normalization="image",
    ),
    "resnet18": LONG,
    "vgg16_bn": LONG,
    "mobilenet": LONG,
    "resnext29": LONG,
    "cuda_convnet_18pct": Recipe(
        learning_rate=0.001,
        decays={"": 0.004, "logits": 1.0},
        rates={"bias": 2.0},
        random=False,
    ),
    "cuda_convnet_11pct": Recipe(
        learning_rate=0.001,
        decays={"local3": 0.004, "local4": 0.004, "logits": 0.01},
        rates={"bias": 2.0},
        size=24,
    ),
    "airbench94_sgd": Recipe(
        # Momentum multiplies steps by the divisor.
        learning_rate=11.5 / (1 + 1 / (1 - 0.85)),
        decays={"": 0.0153 / 11.5},
        bias_decay=0.0153 / 11.5,
        momentum=0.85,
        nesterov=True,
        rates={"whiten.bias": 1.0, "bias": 64.0},
        schedule={0.0: 0.2, 0.23: 1.0, 1.0: 0.07},
        # Three epochs.
        until={"whiten.bias": 144 / 476},
        label_smoothing=0.2,
        reduction="sum",
        lookahead=True,
        padding=2,
        padding_mode="reflect",
        alternate=True,
        normalization="channel",
    ),
}


def decay_of(recipe: Recipe, name: str, parameter: Tensor) -> float:
    """Returns the weight decay of a parameter."""
    if name.endswith("bias"):
        return recipe.bias_decay / rate_of(recipe, name)
    if parameter.ndim == 1:
        return recipe.scale_decay
    return recipe.decays.get(name.split(".")[0], recipe.decays.get("", 0.0))


def rate_of(recipe: Recipe, name: str) -> float:
    """Returns the learning rate factor of a parameter."""
    fitting = (rate for end, rate in recipe.rates.items() if name.endswith(end))
    return next(fitting, 1.0)


def summed(recipe: Recipe, batch_size: int) -> int:
    """Returns the ratio of the recipe's loss to the mean over a batch."""
    return batch_size if recipe.reduction == "sum" else 1


def make_optimizer(
    model: nn.Module, recipe: Recipe, batch_size: int
) -> torch.optim.Optimizer:
    """Returns SGD with the recipe's learning rates and weight decays."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        rate = rate_of(recipe, name)
        decay = decay_of(recipe, name, parameter) * (not recipe.decay_in_loss)
        groups.setdefault((rate, decay), []).append(parameter)
    times = summed(recipe, batch_size)
    return torch.optim.SGD(
        [
            {
                "params": group,
                "lr": rate * recipe.learning_rate / times,
                "weight_decay": decay * times,
            }
            for (rate, decay), group in groups.items()
        ],
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, max_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Returns the scheduler that sets the learning rates after each step."""
    steps = [int(part * max_steps) for part in recipe.schedule]
    factors = list(recipe.schedule.values())
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: float(np.interp(step, steps, factors))
    )


def freeze(model: nn.Module, recipe: Recipe, part: float) -> None:
    """Freezes the parameters that are not trained beyond this fraction of the run."""
    for name, until in recipe.until.items():
        model.get_parameter(name).requires_grad_(part < until)
