"""RegNets in PyTorch, with the stem and strides of kuangliu/pytorch-cifar."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu


class RegNet(nn.Module):
    """Radosavovic et al., 2020: X blocks, or Y blocks with squeeze-and-excitation."""

    def __init__(
        self,
        blocks: list[int],
        widths: list[int],
        group_width: int,
        se_ratio: float = 0,
    ) -> None:
        super().__init__()
        self.add("conv1", 3, 64, 3)
        self.order = []
        inputs = 64
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                name = f"conv{stage + 2}_block{i + 1}"
                self.order.append(name)
                stride = 2 if stage >= 2 and i == 0 else 1
                self.add(f"{name}_1", inputs, width, 1)
                groups = width // group_width
                self.add(f"{name}_2", width, width, 3, stride, groups)
                if se_ratio:
                    hidden = round(se_ratio * inputs)
                    self.add_module(f"{name}_squeeze", nn.Linear(width, hidden))
                    self.add_module(f"{name}_excite", nn.Linear(hidden, width))
                self.add(f"{name}_3", width, width, 1)
                if stride != 1 or inputs != width:
                    self.add(f"{name}_0", inputs, width, 1, stride)
                inputs = width
        self.predictions = nn.Linear(inputs, 10)

    def add(self, name, inputs, outputs, size, stride=1, groups=1) -> None:
        conv = nn.Conv2d(
            inputs, outputs, size, stride, size // 2, groups=groups, bias=False
        )
        self.add_module(f"{name}_conv", conv)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        layers = dict(self.named_children())

        def normalized(name: str, x: Tensor) -> Tensor:
            return layers[f"{name}_bn"](layers[f"{name}_conv"](x))

        x = relu(normalized("conv1", x))
        for name in self.order:
            y = relu(normalized(f"{name}_1", x))
            y = relu(normalized(f"{name}_2", y))
            if f"{name}_squeeze" in layers:
                means = adaptive_avg_pool2d(y, 1).flatten(1)
                hidden = relu(layers[f"{name}_squeeze"](means))
                weights = torch.sigmoid(layers[f"{name}_excite"](hidden))
                y = torch.einsum("nchw,nc->nchw", y, weights)
            y = normalized(f"{name}_3", y)
            if f"{name}_0_conv" in layers:
                x = normalized(f"{name}_0", x)
            x = relu(x + y)
        return self.predictions(adaptive_avg_pool2d(x, 1).flatten(1))


NETWORKS = {
    "regnet_x_200mf": functools.partial(RegNet, [1, 1, 4, 7], [24, 56, 152, 368], 8),
    "regnet_y_400mf": functools.partial(
        RegNet, [1, 2, 7, 12], [32, 64, 160, 384], 16, 0.25
    ),
}
