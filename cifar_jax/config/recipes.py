"""Named settings that go together: what --recipe means."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What distinguishes a kind of run.

    Attributes:
        summary: what it is and where it comes from, in a sentence or two.
        settings: fields of Config by name; all others have their usual defaults.
    """

    summary: str
    settings: Mapping[str, Any]


# Gradients are averaged over the batch, pixels are from 0 to 255, and the last
# parameters are evaluated. From cuda-convnet's layer files, by Alex Krizhevsky.
_CUDA_CONVNET: dict[str, Any] = {
    "normalization": "mean_image",
    "learning_rate": 0.001,
    "param_groups": "group('.*/bias', learning_rate=2.0)",
    "schedule": "piecewise",
    "optimizer": "sgd(momentum=0.9)",
    "weight_decay": 0.004,
    "ema_decay": 0.0,
}

# 200 epochs of SGD with Nesterov momentum along half a cosine, with the usual crops and
# flips (He et al., Deep Residual Learning for Image Recognition, 2015, section 4.2).
_LONG: dict[str, Any] = {
    "max_steps": 78_125,
    "image_size": 32,
    "distortions": "crop(padding=4), flip",
    "normalization": "channel",
    "learning_rate": 0.1,
    "schedule": "cosine",
    "warmup": 0.025,
    "optimizer": "sgd(momentum=0.9, nesterov=True)",
    "weight_decay": 5e-4,
    "ema_decay": 0.999,
}

RECIPES: dict[str, Recipe] = {
    "tutorial": Recipe("TensorFlow's tutorial.", {}),
    "cuda_convnet_18pct": Recipe(
        "cuda-convnet's network with 18% test error: undistorted images, 120 epochs.",
        _CUDA_CONVNET
        | {
            "model": "cuda_convnet_18pct",
            "max_steps": 46_875,
            "image_size": 32,
            "distortions": "",
            # After 100 and 110 of 120 epochs.
            "learning_rate_drops": (100 / 120, 110 / 120),
        },
    ),
    "cuda_convnet_11pct": Recipe(
        "cuda-convnet's network with 11% test error: crops and flips, 520 epochs, "
        "evaluation of ten crops.",
        _CUDA_CONVNET
        | {
            "model": "cuda_convnet_11pct",
            "max_steps": 203_125,
            "distortions": "crop, flip",
            "views": "ten_crops",
            # After 500 and 510 of 520 epochs.
            "learning_rate_drops": (500 / 520, 510 / 520),
        },
    ),
    "vgg16_bn": Recipe(
        "VGG-16 with BatchNorm for 32x32 images, 200 epochs along a cosine.",
        _LONG | {"model": "vgg16_bn", "learning_rate": 0.05},
    ),
    "resnet18": Recipe(
        "ResNet-18 for 32x32 images, 200 epochs along a cosine.",
        _LONG | {"model": "resnet18"},
    ),
}
