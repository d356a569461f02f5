"""The recipes of cifar_jax in PyTorch, with constant learning rates."""

import dataclasses

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        decays: Weight decay by name of the layer; "" is for all other kernels.
        decay_in_loss: Whether the loss includes the weight decay, as in the tutorial;
            otherwise, the optimizer adds it to the gradients.
        bias_rate: Factor of the learning rate of biases.
        ema_decay: Upper limit of the decay of the moving averages; 0 for no averages.
        size: Height and width of the network's inputs.
        padding: Black pixels at each side of the images that crops are taken from.
        random: Whether crops are random, and half of them flipped.
        normalization: "image", "channel" or "mean_image".
    """

    learning_rate: float
    decays: dict[str, float]
    decay_in_loss: bool = False
    momentum: float = 0.9
    nesterov: bool = False
    bias_rate: float = 1.0
    ema_decay: float = 0.0
    size: int = 32
    padding: int = 0
    random: bool = True
    normalization: str = "mean_image"


LONG = Recipe(
    learning_rate=0.1,
    decays={"": 5e-4},
    nesterov=True,
    ema_decay=0.999,
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
    "vgg16_bn": dataclasses.replace(LONG, learning_rate=0.05),
    "mobilenet": LONG,
    "cuda_convnet_18pct": Recipe(
        learning_rate=0.001,
        decays={"": 0.004, "logits": 1.0},
        bias_rate=2.0,
        random=False,
    ),
    "cuda_convnet_11pct": Recipe(
        learning_rate=0.001,
        decays={"local3": 0.004, "local4": 0.004, "logits": 0.01},
        bias_rate=2.0,
        size=24,
    ),
}


def decay_of(recipe: Recipe, name: str, parameter: Tensor) -> float:
    """Returns the weight decay of a parameter; only kernels have one."""
    if name.endswith("bias") or parameter.ndim == 1:
        return 0.0
    return recipe.decays.get(name.split(".")[0], recipe.decays.get("", 0.0))


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns SGD with the learning rates and weight decays of the recipe."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        rate = recipe.bias_rate if name.endswith("bias") else 1.0
        decay = decay_of(recipe, name, parameter) * (not recipe.decay_in_loss)
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": group, "lr": rate * recipe.learning_rate, "weight_decay": decay}
            for (rate, decay), group in groups.items()
        ],
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )
