"""Fixed weights and images for the networks of PyTorch's libraries."""

import zlib

import numpy as np

# The libraries' networks, and the texts for --model that describe the same ones.
CASES = {
    "timm resnet": "resnet18(depths=(1, 1, 1, 1))",
    "torchvision resnet": "resnet18(depths=(1, 1, 1, 1))",
    "timm bottleneck": "cifar_resnet50(depths=(1, 1, 1, 1))",
    "torchvision bottleneck": "cifar_resnet50(depths=(1, 1, 1, 1))",
    "wide resnet": "wrn(depth=16, width=2)",
    "timm vit": "vit_ti(patch=8, width=24, depth=2, heads=2)",
    "timm vit, mean": "vit_ti(patch=8, width=24, depth=2, heads=2, pool='mean')",
    "torchvision vit": "vit_ti(patch=8, width=24, depth=2, heads=2)",
    "transformers vit": "vit_ti(patch=8, width=24, depth=2, heads=2)",
    "timm convmixer": "conv_mixer(24, depth=2)",
    "timm mixer": "mlp_mixer(8, 24, 2, token_hidden=12, channel_hidden=96)",
}


def images() -> np.ndarray:
    """Returns random images, channels last."""
    return np.random.RandomState(0).standard_normal((4, 32, 32, 3)).astype(np.float32)


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the values of a tensor in a state dict, drawn by its name."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    values = random.standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return np.array(7, np.int64)
    if name.endswith("running_var"):
        values = np.exp(0.1 * values)
    elif name.endswith("weight") and len(shape) == 1:
        values = 1 + 0.1 * values
    elif name.endswith("weight"):
        values *= np.sqrt(2 / np.prod(shape[1:]))
    else:
        values *= 0.1
    return values.astype(np.float32)


def shapes_of_vit_s(small: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of timm's vit_small_patch16_224, given those of `timm vit`."""
    sizes = {24: 384, 3 * 24: 3 * 384, 4 * 24: 4 * 384, 8: 16, 4 * 4 + 1: 197, 10: 1000}
    shapes = {}
    for name, shape in small.items():
        for block in range(12 if name.startswith("blocks.0.") else 1):
            scaled = tuple(sizes.get(size, size) for size in shape)
            shapes[name.replace("blocks.0.", f"blocks.{block}.")] = scaled
    return shapes
