"""Computes pytorch.npz: logits of PyTorch's libraries for fixed weights and images.

The tests give cifar_jax the same weights, by the names that the libraries have for
them, and compare the logits. To recompute them in a throwaway environment:

    pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31 transformers==5.24.0
    cd tests
    python -m golden.make_pytorch

For each network, the file has the logits, computed in float64, and the names and shapes
of the state dict, as JSON.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from golden import pytorch_inputs as inputs
from safetensors.numpy import load_file, save_file
from torch import nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.models import vision_transformer


def for_small_images(network: nn.Module) -> nn.Module:
    """Returns a ResNet with the stem that is usual for CIFAR."""
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


class WideBlock(nn.Module):
    """A block with pre-activation, named as is usual for CIFAR."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.bn1(x).relu()
        if hasattr(self, "convShortcut"):
            x = self.convShortcut(activated)
        return x + self.conv2(self.bn2(self.conv1(activated)).relu())


class WideStage(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride), *rest)


class WideResNet(nn.Module):
    """WRN-depth-width, whose stages are called blocks, and blocks layers."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(16, 16 * width, blocks, 1)
        self.block2 = WideStage(16 * width, 32 * width, blocks, 2)
        self.block3 = WideStage(32 * width, 64 * width, blocks, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        for stage in (self.block1, self.block2, self.block3):
            x = stage.layer(x)
        return self.fc(self.bn1(x).relu().mean((2, 3)))


def timm_vit(**options: object) -> nn.Module:
    return timm.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=2,
        num_classes=10,
        **options,
    )


def images() -> torch.Tensor:
    return torch.from_numpy(inputs.images().transpose(0, 3, 1, 2).copy()).double()


NETWORKS = {
    "timm resnet": lambda: for_small_images(
        timm.models.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=10)
    ),
    "torchvision resnet": lambda: for_small_images(
        torchvision_resnet.ResNet(
            torchvision_resnet.BasicBlock, [1, 1, 1, 1], num_classes=10
        )
    ),
    "timm bottleneck": lambda: for_small_images(
        timm.models.ResNet(timm.models.resnet.Bottleneck, (1, 1, 1, 1), num_classes=10)
    ),
    "torchvision bottleneck": lambda: for_small_images(
        torchvision_resnet.ResNet(
            torchvision_resnet.Bottleneck, [1, 1, 1, 1], num_classes=10
        )
    ),
    "wide resnet": lambda: WideResNet(16, 2),
    "timm vit": timm_vit,
    "timm vit, mean": lambda: timm_vit(
        global_pool="avg", class_token=False, fc_norm=False
    ),
    "torchvision vit": lambda: vision_transformer.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=24,
        mlp_dim=96,
        num_classes=10,
    ),
    "timm convmixer": lambda: timm.models.convmixer.ConvMixer(
        dim=24, depth=2, kernel_size=5, patch_size=2, num_classes=10
    ),
    "timm mixer": lambda: timm.models.mlp_mixer.MlpMixer(
        img_size=32, patch_size=8, embed_dim=24, num_blocks=2, num_classes=10
    ),
}


def compute_transformers() -> tuple[str, np.ndarray]:
    """Does what `compute` does for a network of transformers.

    Its files have other names than its state dict.
    """
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        num_labels=10,
        # The authors' and everyone else's; transformers' own is 1e-12.
        layer_norm_eps=1e-6,
    )
    with tempfile.TemporaryDirectory() as folder:
        transformers.ViTForImageClassification(config).save_pretrained(folder)
        path = f"{folder}/model.safetensors"
        shapes = {name: value.shape for name, value in load_file(path).items()}
        fixed = {name: inputs.tensor(name, shape) for name, shape in shapes.items()}
        save_file(fixed, path, {"format": "pt"})
        network = transformers.ViTForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = network.eval().double()(images()).logits
    return json.dumps(shapes), logits.numpy()


def compute(network: nn.Module) -> tuple[str, np.ndarray]:
    """Returns the names and shapes of the state dict, and the logits."""
    network.eval().double()
    state = network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.from_numpy(inputs.tensor(name, shapes[name])))
        return json.dumps(shapes), network(images()).numpy()


def main() -> None:
    """Computes the file."""
    values: dict[str, np.ndarray] = {}
    for case in inputs.CASES:
        if case == "transformers vit":
            shapes, logits = compute_transformers()
        else:
            shapes, logits = compute(NETWORKS[case]())
        values |= {f"{case} shapes": np.array(shapes), f"{case} logits": logits}
    np.savez_compressed(Path(__file__).with_name("pytorch.npz"), **values)


if __name__ == "__main__":
    main()
