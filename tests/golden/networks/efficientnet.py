"""EfficientNet-B0 in PyTorch, for images of 32x32, without anything random."""

import torch
from golden.networks._by_run import ByRun
from torch import Tensor
from torch.nn import functional

# Width, kernel size and stride of each block, by stage.
STAGES = [
    [(16, 3, 1)],
    [(24, 3, 2), (24, 3, 1)],
    [(40, 5, 2), (40, 5, 1)],
    [(80, 3, 2), (80, 3, 1), (80, 3, 1)],
    [(112, 5, 1), (112, 5, 1), (112, 5, 1)],
    [(192, 5, 2), (192, 5, 1), (192, 5, 1), (192, 5, 1)],
    [(320, 3, 1)],
]


class EfficientNet(ByRun):
    """Tan and Le, 2019, with the dense layer right after the last block."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.conv("conv1", x, 32, 3))
        for stage, blocks in enumerate(STAGES, 1):
            for number, (width, size, stride) in enumerate(blocks, 1):
                name = f"stage{stage}_block{number}"
                y = self.block(name, x, width, size, stride)
                x = x + y if x.shape == y.shape else y
        return self.logits(x)

    def block(self, name: str, x: Tensor, width: int, size: int, stride: int) -> Tensor:
        channels = x.shape[1]
        y, inside = x, channels
        if not name.startswith("stage1_"):
            inside = 6 * channels
            y = functional.silu(self.conv(f"{name}_expand", x, inside, 1))
        y = functional.silu(
            self.conv(f"{name}_depthwise", y, inside, size, stride, inside)
        )
        means = functional.adaptive_avg_pool2d(y, 1).flatten(1)
        few = functional.silu(self.linear(f"{name}_squeeze", means, channels // 4))
        factors = torch.sigmoid(self.linear(f"{name}_excite", few, inside))
        y = torch.einsum("nchw,nc->nchw", y, factors)
        return self.conv(f"{name}_project", y, width, 1)


NETWORKS = {"efficientnet_b0(dropout=0, drop_connect=0)": EfficientNet}
