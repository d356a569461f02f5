"""VGG with BatchNorm in PyTorch, for images of 32x32."""

import functools

from golden.networks._by_run import ByRun
from torch import Tensor
from torch.nn import functional


class VGG(ByRun):
    """Simonyan and Zisserman, 2015, with one dense layer instead of three."""

    def __init__(self, depths: tuple[int, ...]) -> None:
        self.depths = depths
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        for block, (width, depth) in enumerate(
            zip((64, 128, 256, 512, 512), self.depths, strict=True), 1
        ):
            for index in range(1, depth + 1):
                x = self.conv(f"block{block}_conv{index}", x, width, 3).relu()
            x = functional.max_pool2d(x, 2)
        return self.logits(x)


NETWORKS = {
    "vgg16_bn": functools.partial(VGG, (2, 2, 3, 3, 3)),
    "vgg19_bn": functools.partial(VGG, (2, 2, 4, 4, 4)),
}
