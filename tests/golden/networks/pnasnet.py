"""PNASNets of depthwise convolutions in PyTorch, for images of 32x32."""

import torch
from golden.networks._by_run import ByRun
from torch import Tensor
from torch.nn import functional


class PNASNetA(ByRun):
    """After Liu et al., 2018: cells of one convolution and pooling."""

    width = 44

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv("conv1", x, self.width, 3).relu()
        for stage in (1, 2, 3):
            if stage > 1:
                x = self.cell(f"stage{stage}_reduce", x, 2 * x.shape[1], 2)
            for number in range(1, 7):
                x = self.cell(f"stage{stage}_cell{number}", x, x.shape[1], 1)
        return self.logits(x)

    def separable(
        self, name: str, x: Tensor, width: int, size: int, stride: int
    ) -> Tensor:
        return self.conv(f"{name}_{size}x{size}", x, width, size, stride, x.shape[1])

    def pool(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        x = functional.max_pool2d(x, kernel_size=3, stride=stride, padding=1)
        return x if stride == 1 else self.conv(f"{name}_pool", x, width, 1)

    def cell(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        y = self.separable(name, x, width, 7, stride)
        return functional.relu(y + self.pool(name, x, width, stride))


class PNASNetB(PNASNetA):
    """Cells of three convolutions and pooling."""

    width = 32

    def cell(self, name: str, x: Tensor, width: int, stride: int) -> Tensor:
        y1, y2, y4 = (self.separable(name, x, width, k, stride) for k in (7, 3, 5))
        y3 = self.pool(name, x, width, stride)
        y = torch.cat([y1 + y2, y3 + y4], 1).relu()
        return self.conv(f"{name}_join", y, width, 1).relu()


NETWORKS = {"pnasnet_a": PNASNetA, "pnasnet_b": PNASNetB}
