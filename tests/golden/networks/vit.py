"""Vision Transformers in PyTorch, by its own attention."""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Module):
    """A GELU between two linear layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class EncoderBlock(nn.Module):
    """Vaswani et al., 2017, normalized first."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x).transpose(0, 1)
        # Heads are consecutive parts of the width, as in nn.MultiheadAttention.
        attended, _ = functional.multi_head_attention_forward(
            y,
            y,
            y,
            y.shape[-1],
            self.heads,
            None,
            torch.cat([self.query.bias, self.key.bias, self.value.bias]),
            None,
            None,
            False,
            0.0,
            self.out.weight,
            self.out.bias,
            need_weights=False,
            use_separate_proj_weight=True,
            q_proj_weight=self.query.weight,
            k_proj_weight=self.key.weight,
            v_proj_weight=self.value.weight,
        )
        x = x + attended.transpose(0, 1)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Dosovitskiy et al., 2021."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        mlp_ratio: int = 4,
        token: bool = True,
        learned: bool = True,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.learned = learned
        tokens = (32 // patch) ** 2
        if token:
            self.class_token = nn.Parameter(torch.zeros(1, 1, width))
            tokens += 1
        if learned:
            self.position_embedding = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = [f"block{number}" for number in range(1, depth + 1)]
        for name in self.blocks:
            self.add_module(name, EncoderBlock(width, heads, mlp_ratio * width))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predictions = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        count, width, height, columns = x.shape
        x = x.flatten(2).transpose(1, 2)
        if not self.learned:
            x = x + positions(height, columns, width)
        if hasattr(self, "class_token"):
            x = torch.cat([self.class_token.expand(count, -1, -1), x], dim=1)
        if self.learned:
            x = x + self.position_embedding
        for name in self.blocks:
            x = getattr(self, name)(x)
        x = self.norm(x)
        x = x[:, 0] if hasattr(self, "class_token") else x.mean(dim=1)
        return self.predictions(x)


def positions(height: int, width: int, size: int) -> Tensor:
    """Chen et al., 2021: sines and cosines of columns, then of rows."""
    values = []
    for row in range(height):
        for column in range(width):
            one = []
            for place in (column, row):
                angles = [place / 10_000 ** (4 * i / size) for i in range(size // 4)]
                one += [*map(math.sin, angles), *map(math.cos, angles)]
            values.append(one)
    return torch.tensor(values, dtype=torch.float64)


NETWORKS = {
    "vit_ti": functools.partial(ViT, 192, 12, 3, 4),
    "vit_s": functools.partial(ViT, 384, 12, 6, 4),
    "vit_b": functools.partial(ViT, 768, 12, 12, 4),
    "vit_ti(patch=8, width=64, depth=2, heads=4, mlp_ratio=2, pool='mean', "
    "positions='sincos')": functools.partial(
        ViT, 64, 2, 4, 8, mlp_ratio=2, token=False, learned=False
    ),
}
