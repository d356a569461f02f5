"""Recipes: named sets of settings, chosen by --recipe."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings that define a type of run.

    Attributes:
        summary: what it is and where it comes from, in a sentence or two.
        settings: fields of Config by name; all others keep their usual defaults.
    """

    summary: str
    settings: Mapping[str, Any]


# Gradients are averaged over the batch, pixels range from 0 to 255, and the last
# parameters are evaluated. From cuda-convnet's layer files, by Alex Krizhevsky.
_CUDA_CONVNET: dict[str, Any] = {
    "eval_frequency": 1_953,  # 5 epochs
    "normalization": "mean_image",
    "learning_rate": 0.001,
    "param_groups": "group('.*/bias', learning_rate=2.0)",
    "schedule": "piecewise",
    "optimizer": "sgd(momentum=0.9)",
    "weight_decay": 0.004,
    "average": "none",
}

# As published with the networks: batches of 128, a learning rate that drops from 0.1,
# no warm-up, no average, and a weight decay from which no parameter is exempt.
_PUBLISHED: dict[str, Any] = {
    "eval_frequency": 1_953,  # 5 epochs
    "image_size": 32,
    "distortions": "crop(padding=4), flip",
    "normalization": "channel",
    "learning_rate": 0.1,
    "schedule": "piecewise",
    "optimizer": "sgd(momentum=0.9, nesterov=True)",
    "weight_decay": 5e-4,
    "param_groups": "group('.*', weight_decay=1)",
    "average": "none",
}

# 200 epochs, from the program that made these networks known for 32x32 images:
# https://github.com/kuangliu/pytorch-cifar
_PYTORCH_CIFAR: dict[str, Any] = _PUBLISHED | {
    "max_steps": 78_125,
    "schedule": "cosine",
    "optimizer": "sgd(momentum=0.9)",
}

# 200 epochs with three drops of the learning rate: Zagoruyko and Komodakis, Wide
# Residual Networks, 2016, section 3.
_THREE_DROPS: dict[str, Any] = _PUBLISHED | {
    "max_steps": 78_125,
    "learning_rate_decay_factor": 0.2,
    "learning_rate_drops": (60 / 200, 120 / 200, 160 / 200),
}

# He et al., Deep Residual Learning for Image Recognition, 2016, section 4.2.
_THIN_RESNET: dict[str, Any] = _PUBLISHED | {
    "max_steps": 64_000,
    "normalization": "mean_image",
    "learning_rate_drops": (32 / 64, 48 / 64),
    "optimizer": "sgd(momentum=0.9)",
    "weight_decay": 1e-4,
}

# Airbench sums losses over the batch where we average them, so our learning rates are
# its rates times the batch size. Its weight decay is the fraction of a weight that a
# step at the peak learning rate removes.
_AIRBENCH: dict[str, Any] = {
    "drop_remainder": True,
    "image_size": 32,
    "distortions": "translate(2), alternating_flip",
    "normalization": "channel",
    "views": "shifted_mirrors",
    "loss": "cross_entropy(label_smoothing=0.2)",
    "average": "none",
}
_WHITENING = "group('whiten/kernel', frozen=True)"


def _airbench_sgd(
    rate: float,
    decay: float,
    max_steps: int,
    schedule: str,
    whitening: float | None = None,
) -> dict[str, Any]:
    """Returns the settings of an Airbench recipe with SGD and Lookahead.

    A batch has 1,024 images, an epoch 48 steps. BatchNorm biases learn 64 times as
    fast.

    Args:
        rate: the peak learning rate for losses summed over 1,024 images, times the
            factor (1 + 1 / (1 - momentum)) by which momentum multiplies steps.
        decay: the weight decay, times the same factor.
        max_steps: the length of the run.
        schedule: the learning rate schedule.
        whitening: the fraction of the run during which the whitening convolution's bias
            is trained; None: three epochs.
    """
    whitening = whitening or 3 * 48 / max_steps
    rate, decay = (value / (1 + 1 / (1 - 0.85)) for value in (rate, decay))
    return _AIRBENCH | {
        "max_steps": max_steps,
        "batch_size": 1024,
        "learning_rate": rate,
        "schedule": schedule,
        # 0.95 ** 5 of the slow weights is kept at the end.
        "optimizer": "lookahead(sgd(momentum=0.85, nesterov=True), period=5, "
        f"step_size={1 - 0.95**5}, cubic=True)",
        "weight_decay": decay / rate,
        "param_groups": f"{_WHITENING}, group('whiten/bias', weight_decay=1, "
        f"until={whitening}), group('.*_norm./bias', learning_rate=64, "
        f"weight_decay={1 / 64})",
    }


def _airbench_muon(
    batch_size: int, max_steps: int, rate: float, whitening: float
) -> dict[str, Any]:
    """Returns the settings of an Airbench recipe with Muon.

    Args:
        batch_size: images per step.
        max_steps: the length of the run.
        rate: the peak learning rate of the 3x3 convolutions, which Muon updates; the
            other rates are Airbench's, for losses summed over the batch.
        whitening: the fraction of the run during which the whitening convolution's bias
            is trained.
    """
    biases, head = 0.053 * batch_size, 0.67 * batch_size
    decay = 2e-6 * batch_size / biases
    sgd = "optimizer='sgd(momentum=0.85, nesterov=True)'"
    fast = f"{sgd}, learning_rate={biases / rate}, weight_decay=1"
    return _AIRBENCH | {
        "max_steps": max_steps,
        "batch_size": batch_size,
        "learning_rate": rate,
        "schedule": "linear",
        "optimizer": "muon(beta=0.6, steps=3, keep_norm=True)",
        "weight_decay": decay,
        "param_groups": f"{_WHITENING}, group('whiten/bias', {fast}, "
        f"schedule='linear(until={whitening})', until={whitening}), "
        f"group('.*_norm./bias', {fast}), group('predictions/kernel', {sgd}, "
        f"learning_rate={head / rate}, weight_decay={biases / head}), "
        "group('group.*/kernel', weight_decay=0)",
    }


# For your own pictures. The head learns from the start, while the learning rate of the
# convolutions rises from 0, so that a head that has learned nothing yet does not
# distort them (Kumar et al., Fine-Tuning Can Distort Pretrained Features and
# Underperform Out-of-Distribution, 2022). The convolutions are trained with SGD: where
# the head suffices, its steps shrink with the gradients; Adam's would not.
_FINETUNE: dict[str, Any] = {
    "init_from": "pretrained",
    "model": "airbench94",
    "num_epochs": 30.0,
    "batch_size": 32,
    "image_size": 32,
    "distortions": "translate(2), flip",
    "normalization": "channel",
    "views": "shifted_mirrors",
    "learning_rate": 0.05,
    "schedule": "triangle(peak=0.5)",
    "optimizer": "sgd(momentum=0.9, nesterov=True)",
    "weight_decay": 0.0,
    "param_groups": f"{_WHITENING}, group('predictions/kernel', optimizer='adamw', "
    "learning_rate=0.6, schedule='linear')",
    "average": "none",
}


# 300 epochs of AdamW in batches of 512: Touvron et al., Training Data-Efficient Image
# Transformers, 2021, table 9, without repeated augmentation. As in their code, 32x32
# images are cropped instead of zoomed. Magnitude 9 of 10 there is 27 of 30 here.
_VIT: dict[str, Any] = {
    "max_steps": 29_297,
    "eval_frequency": 488,  # 5 epochs
    "batch_size": 512,
    "image_size": 32,
    "distortions": "crop(padding=4), flip, rand_augment(2, 27), "
    "random_erasing(prob=0.25, value='random'), choice(mixup(0.8), cutmix(1.0))",
    "normalization": "channel",
    "loss": "cross_entropy(label_smoothing=0.1)",
    "learning_rate": 5e-4,
    "schedule": "cosine",
    "warmup": 5 / 300,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "average": "ema(0.999, ramp=True)",
}

# From https://github.com/locuslab/convmixer-cifar10, by the authors, for 25 epochs, but
# with a learning rate that falls in a single line, not in two.
_CONV_MIXER: dict[str, Any] = {
    "max_steps": 2_442,
    "eval_frequency": 98,  # an epoch
    "batch_size": 512,
    "image_size": 32,
    "distortions": "flip, rand_augment(2, 12)",
    "normalization": "channel",
    "learning_rate": 0.05,
    "schedule": "triangle(peak=0.4)",
    "optimizer": "adamw",
    "weight_decay": 0.005,
    "average": "none",
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
        "evaluation on ten crops.",
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
        "VGG-16 with BatchNorm as in kuangliu/pytorch-cifar: 200 epochs, cosine "
        "schedule.",
        _PYTORCH_CIFAR | {"model": "vgg16_bn"},
    ),
    "resnet18": Recipe(
        "ResNet-18 as in kuangliu/pytorch-cifar: 200 epochs, cosine schedule.",
        _PYTORCH_CIFAR | {"model": "resnet18"},
    ),
    "resnet18_cutout": Recipe(
        "ResNet-18 with Cutout, as in its paper: 200 epochs, three drops.",
        # DeVries and Taylor, Improved Regularization of Convolutional Neural Networks
        # with Cutout, 2017, and https://github.com/uoguelph-mlrg/Cutout
        _THREE_DROPS
        | {"model": "resnet18", "distortions": "crop(padding=4), flip, cutout(16)"},
    ),
    "resnet20": Recipe(
        "The 20-layer ResNet for CIFAR as in the paper: 64,000 steps, two drops.",
        _THIN_RESNET | {"model": "resnet20"},
    ),
    "resnet56": Recipe(
        "The 56-layer ResNet for CIFAR as in the paper: 64,000 steps, two drops.",
        _THIN_RESNET | {"model": "resnet56"},
    ),
    "preact_resnet18": Recipe(
        "PreActResNet-18 as in kuangliu/pytorch-cifar: 200 epochs, cosine schedule.",
        _PYTORCH_CIFAR | {"model": "preact_resnet18"},
    ),
    "wrn28_10": Recipe(
        "WRN-28-10 as in the paper: 200 epochs, crops padded by reflection, three "
        "drops.",
        _THREE_DROPS
        | {"model": "wrn(depth=28, width=10)", "distortions": "translate(4), flip"},
    ),
    "densenet100": Recipe(
        "DenseNet-BC-100-12 as in the paper: 300 epochs of batches of 64, two drops.",
        # Huang et al., Densely Connected Convolutional Networks, 2017, section 4.2.
        _PUBLISHED
        | {
            "model": "densenet(depth=100, growth=12)",
            "max_steps": 234_375,
            "batch_size": 64,
            "eval_frequency": 3_906,  # 5 epochs
            "learning_rate_drops": (0.5, 0.75),
            "weight_decay": 1e-4,
        },
    ),
    "sprint": Recipe(
        "A narrower Airbench with Muon, 4 epochs, for 90% within minutes on a CPU.",
        _airbench_muon(batch_size=384, max_steps=540, rate=0.12, whitening=0.375)
        | {"model": "sprint"},
    ),
    "airbench94": Recipe(
        "Airbench with Muon, 8 epochs, for the 94% that its author reports.",
        _airbench_muon(batch_size=2000, max_steps=200, rate=0.24, whitening=75 / 200)
        | {"model": "airbench94"},
    ),
    "airbench94_sgd": Recipe(
        "Airbench with SGD and Lookahead, 9.9 epochs, also for 94%.",
        _airbench_sgd(11.5, 0.0153, 476, "triangle(start=0.2, peak=0.23, end=0.07)")
        | {"model": "airbench94_sgd"},
    ),
    "airbench95": Recipe(
        "A wider Airbench, 15 epochs, for 95%.",
        _airbench_sgd(10.0, 0.0153, 720, "triangle(start=0.2, peak=0.23, end=0.07)")
        | {"model": "airbench95"},
    ),
    "airbench96": Recipe(
        "A wider, deeper Airbench with Cutout, 45 epochs of the hardest half of the "
        "images, for 96%.",
        # As airbench96_faster.py, whose learning rate is for losses summed over 512 of
        # 1,024 images, and which never freezes the bias, although it means to.
        _airbench_sgd(9.0 / 2, 0.012, 2160, "triangle(start=0.2, peak=0.1)", 1.0)
        | {
            "model": "airbench96",
            "batch_size": 512,
            "drop_remainder": False,
            "order": "hardest",
            "distortions": "translate(4), alternating_flip, cutout(12)",
        },
    ),
    "vit_s": Recipe(
        "ViT-S for 32x32 images, 300 epochs of DeiT's augmentation; not measured.",
        _VIT | {"model": "vit_s(drop_path=0.1)"},
    ),
    "conv_mixer": Recipe(
        "ConvMixer for 32x32 images, 25 epochs; not measured.",
        _CONV_MIXER | {"model": "conv_mixer"},
    ),
    "finetune": Recipe(
        "For a folder with few pictures: 30 epochs starting from the bundled network, "
        "its new head first.",
        _FINETUNE,
    ),
}
