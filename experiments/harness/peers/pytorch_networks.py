"""Networks of cifar_jax in PyTorch, with the same layers and initialization.

The only difference: in training, PyTorch's BatchNorm keeps a running average of the
unbiased variance, cifar_jax's of the biased one.
"""

from collections.abc import Callable, Sequence

import torch
from pytorch_airbench import Airbench
from torch import Tensor, nn
from torch.nn import functional


class TutorialCNN(nn.Module):
    """Two 5x5 convolutions with pooling and LRN, then three dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.pool = max_pool()
        self.norm = norm_across_channels()
        self.local3 = nn.Linear(6 * 6 * 64, 384)
        self.local4 = nn.Linear(384, 192)
        self.softmax_linear = nn.Linear(192, 10)
        deviations = (0.05, 0.05, 0.04, 0.04, 1 / 192)
        starts = (0.0, 0.1, 0.1, 0.1, 0.0)
        layers = (self.conv1, self.conv2, self.local3, self.local4, self.softmax_linear)
        for layer, std, start in zip(layers, deviations, starts, strict=True):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.constant_(layer.bias, start)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.norm(self.pool(functional.relu(self.conv1(images))))
        x = self.pool(self.norm(functional.relu(self.conv2(x))))
        x = functional.relu(self.local3(x.flatten(1)))
        x = functional.relu(self.local4(x))
        return self.softmax_linear(x)


class ResNet18(nn.Module):
    """ResNet-18 for 32x32 images: a 3x3 stem and four stages of two basic blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 64, 3)
        blocks, inputs = [], 64
        for width, strides in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(inputs, width, strides), BasicBlock(width, width, 1)]
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        self.predictions = nn.Linear(512, 10)
        initialize_as_he(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.blocks(self.stem(images).relu_())
        return self.predictions(x.mean((2, 3)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them."""

    def __init__(self, inputs: int, width: int, strides: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, width, 3, strides)
        self.second = conv_norm(width, width, 3)
        same = strides == 1 and inputs == width
        self.shortcut = nn.Identity() if same else conv_norm(inputs, width, 1, strides)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output of the block."""
        y = self.second(self.first(x).relu_())
        return y.add_(self.shortcut(x)).relu_()


class VGG16(nn.Module):
    """VGG-16 for 32x32 images, with BatchNorm and a single dense layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [conv_norm(inputs, width, 3), nn.ReLU(inplace=True)]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.stacks = nn.Sequential(*layers)
        self.predictions = nn.Linear(512, 10)
        initialize_as_he(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        return self.predictions(self.stacks(images).mean((2, 3)))


class MobileNet(nn.Module):
    """MobileNet at full width; its last 1x1 convolution is written as a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        pairs = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
        pairs += [*5 * [(512, 1)], (1024, 2), (1024, 1)]
        layers = self.layer(3, 32, 3, 2)
        inputs = 32
        for width, strides in pairs:
            layers += self.layer(inputs, inputs, 3, strides, groups=inputs)
            layers += self.layer(inputs, width, 1, 1)
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.predictions = nn.Linear(1024, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.predictions.bias)

    def layer(
        self, inputs: int, width: int, size: int, strides: int, groups: int = 1
    ) -> list[nn.Module]:
        """Returns a convolution, its BatchNorm and ReLU capped at 6."""
        norm = {"eps": 1e-3, "momentum": 0.01}
        conv = conv_norm(inputs, width, size, strides, groups, **norm)
        layer: list[nn.Module] = [conv, nn.ReLU6(inplace=True)]
        if strides == 1:
            return layer
        # With stride 2, SAME pads even sizes at the bottom and right only.
        conv[0].padding = (0, 0)
        return [nn.ZeroPad2d((0, 1, 0, 1)), *layer]

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        return self.predictions(self.layers(images).mean((2, 3)))


class ResNeXt29(nn.Module):
    """ResNeXt-29, 32x4d, for 32x32 images: three stages of three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 64, 1)
        blocks, inputs = [], 64
        for width, strides in ((128, 1), (256, 2), (512, 2)):
            blocks.append(GroupedBlock(inputs, width, strides))
            inputs = 2 * width
            blocks += [GroupedBlock(inputs, width, 1) for _ in range(2)]
        self.blocks = nn.Sequential(*blocks)
        self.predictions = nn.Linear(inputs, 10)
        initialize_as_he(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.blocks(self.stem(images).relu_())
        return self.predictions(x.mean((2, 3)))


class GroupedBlock(nn.Module):
    """1x1, grouped 3x3, and 1x1 convolutions with a shortcut around them."""

    def __init__(self, inputs: int, width: int, strides: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, width, 1)
        self.second = conv_norm(width, width, 3, strides, groups=32)
        self.third = conv_norm(width, 2 * width, 1)
        same = inputs == 2 * width
        self.shortcut = (
            nn.Identity() if same else conv_norm(inputs, 2 * width, 1, strides)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output of the block."""
        y = self.second(self.first(x).relu_()).relu_()
        return self.third(y).add_(self.shortcut(x)).relu_()


class CudaConvnet18pct(nn.Module):
    """Three 5x5 convolutions with pooling and LRN within each map, one dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.max_pool = max_pool()
        # Averages pixels inside the image only.
        self.average = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        self.logits = nn.Linear(4 * 4 * 64, 10)
        layers = (self.conv1, self.conv2, self.conv3, self.logits)
        initialize_normal(layers, (1e-4, 0.01, 0.01, 0.01))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.max_pool(self.conv1(images))
        x = norm_within_maps(x.relu_())
        x = norm_within_maps(self.average(self.conv2(x).relu_()))
        x = self.average(self.conv3(x).relu_())
        return self.logits(x.flatten(1))


class CudaConvnet11pct(nn.Module):
    """Two 5x5 convolutions with pooling and LRN, two locally connected layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.pool = max_pool()
        self.norm = norm_across_channels()
        self.local3 = LocallyConnected(6, 64, 64)
        self.local4 = LocallyConnected(6, 64, 32)
        self.logits = nn.Linear(6 * 6 * 32, 10)
        layers = (self.conv1, self.conv2, self.local3, self.local4, self.logits)
        initialize_normal(layers, (1e-4, 0.01, 0.04, 0.04, 0.01))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits."""
        x = self.norm(self.pool(self.conv1(images).relu_()))
        x = self.pool(self.norm(self.conv2(x).relu_()))
        x = x.flatten(2).permute(2, 1, 0).contiguous()
        x = self.local3(x).relu_()
        x = self.local4(x).relu_()
        return self.logits(x.flatten(0, 1).T)


class LocallyConnected(nn.Module):
    """A 3x3 convolution with separate kernels and biases at each position.

    Images have the layout (position, channel, batch). That way, patches are copies of
    whole rows, every layer multiplies contiguous matrices, and nothing is transposed.
    """

    def __init__(self, size: int, inputs: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size * size, width, 9 * inputs))
        self.bias = nn.Parameter(torch.empty(size * size, width, 1))
        # Border pixels of the padded image point to the row after the last position.
        padded = torch.full((size + 2, size + 2), size * size)
        padded[1:-1, 1:-1] = torch.arange(size * size).view(size, size)
        patches = padded.unfold(0, 3, 1).unfold(1, 3, 1)
        self.register_buffer("patches", patches.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the products with the kernels, plus the biases."""
        padded = functional.pad(x, (0, 0, 0, 0, 0, 1))
        patches = padded.index_select(0, self.patches).view(len(x), -1, x.shape[2])
        return torch.baddbmm(self.bias, self.weight, patches)


def conv_norm(
    inputs: int,
    width: int,
    size: int,
    strides: int = 1,
    groups: int = 1,
    **norm: float,
) -> nn.Sequential:
    """Returns a convolution without bias and its BatchNorm."""
    conv = nn.Conv2d(inputs, width, size, strides, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width, **norm))


def max_pool() -> nn.Module:
    """Returns 3x3 max pooling with stride 2 and TensorFlow's SAME padding."""
    # With ceil_mode, padding is added at the bottom and right, as SAME does for even
    # sizes.
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def norm_across_channels() -> nn.Module:
    """Returns the tutorial's local response normalization."""
    # PyTorch divides alpha by size: 0.001 / 9, as in the tutorial.
    return nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)


def norm_within_maps(x: Tensor) -> Tensor:
    """Normalizes by the sum of squares in a 3x3 window of the same channel."""
    # The mean over 9 pixels, padding included, is a ninth of the sum.
    nearby = functional.avg_pool2d(x * x, 3, 1, 1)
    return x * (1 + 5e-5 * nearby) ** -0.75


def initialize_as_he(model: nn.Module) -> None:
    """Initializes convolutions as He et al. (2015), the dense layer with sd 0.01."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    initialize_normal([model.predictions], [0.01])


def initialize_normal(layers: Sequence[nn.Module], deviations: Sequence[float]) -> None:
    """Initializes kernels from normal distributions, and biases as zeros."""
    for layer, deviation in zip(layers, deviations, strict=True):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)


def fold_batch_norms(model: nn.Module) -> None:
    """Multiplies BatchNorm's factors into the convolutions, for evaluation only."""
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.BatchNorm2d):
            # Airbench pools in between, where its positive factors change no maximum.
            module[0] = nn.utils.fuse_conv_bn_eval(module[0], module[-1])
            module[-1] = nn.Identity()


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tutorial": TutorialCNN,
    "resnet18": ResNet18,
    "vgg16_bn": VGG16,
    "mobilenet": MobileNet,
    "resnext29": ResNeXt29,
    "cuda_convnet_18pct": CudaConvnet18pct,
    "cuda_convnet_11pct": CudaConvnet11pct,
    "airbench94_sgd": Airbench,
}
