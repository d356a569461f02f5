"""MLP-Mixers in PyTorch."""

import functools

from golden.networks.vit import MLP
from torch import Tensor, nn


class MixerBlock(nn.Module):
    """Tolstikhin et al., 2021, figure 1."""

    def __init__(self, patches: int, width: int, tokens: int, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_tokens = MLP(patches, tokens)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp_channels = MLP(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class MLPMixer(nn.Module):
    """Blocks between a linear function of patches and a mean over them."""

    def __init__(
        self, patch: int, width: int, depth: int, tokens: int, channels: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        count = (32 // patch) ** 2
        self.blocks = [f"block{number}" for number in range(1, depth + 1)]
        for name in self.blocks:
            self.add_module(name, MixerBlock(count, width, tokens, channels))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predictions = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.predictions(self.norm(x).mean(dim=1))


NETWORKS = {
    "mlp_mixer": functools.partial(MLPMixer, 4, 512, 8, 256, 2048),
    "mlp_mixer(8, 24, depth=3, token_hidden=10, channel_hidden=40)": functools.partial(
        MLPMixer, 8, 24, 3, 10, 40
    ),
}
