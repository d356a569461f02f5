"""Networks in PyTorch that create their layers when they are first applied."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ByRun(nn.Module):
    """A network whose `forward` names its layers; the first call creates them."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self(torch.zeros(2, 3, 32, 32))

    def layer(self, name: str, create: Callable[[], nn.Module]) -> nn.Module:
        if name not in self._modules:
            self.add_module(name, create())
        return self._modules[name]

    def linear(self, name: str, x: Tensor, outputs: int) -> Tensor:
        return self.layer(name, lambda: nn.Linear(x.shape[1], outputs))(x)

    def conv(
        self,
        name: str,
        x: Tensor,
        outputs: int,
        size: int,
        stride: int = 1,
        groups: int = 1,
    ) -> Tensor:
        """Applies a convolution without bias, and BatchNorm."""

        def create() -> nn.Module:
            options = {"padding": size // 2, "groups": groups, "bias": False}
            return nn.Conv2d(x.shape[1], outputs, size, stride, **options)

        y = self.layer(name, create)(x)
        return self.layer(f"{name}_bn", lambda: nn.BatchNorm2d(outputs))(y)

    def logits(self, x: Tensor) -> Tensor:
        """Applies a linear layer to the mean over all pixels."""
        return self.linear("predictions", x.mean(dim=(2, 3)), 10)
