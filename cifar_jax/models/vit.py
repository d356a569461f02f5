"""Vision Transformer (ViT): attention between the patches of an image.

Dosovitskiy et al., "An image is worth 16x16 words: Transformers for image recognition
at scale", 2021.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import glorot_uniform, normal, zeros_init
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.activations import gelu
from cifar_jax.models.block import Block
from cifar_jax.models.network import Network
from cifar_jax.models.patches import patches


class MLP(Block):
    """Two dense layers for the last axis, with a GELU between them.

    Attributes:
        hidden: outputs of the first layer.
        dropout: probability of dropping an output of either layer.
    """

    hidden: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"], train: bool) -> Float[Array, "*n c"]:
        """Returns the outputs of the second layer."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        dense = functools.partial(self.dense, kernel_init=glorot_uniform())
        y = drop(gelu(dense(self.hidden, "fc1")(x)))
        return drop(dense(x.shape[-1], "fc2")(y))


class EncoderBlock(Block):
    """Self-attention and an MLP, each normalized before and added to its input.

    Attributes:
        heads: attention heads.
        hidden: width of the MLP's hidden layer.
        dropout: probability of dropping an output of a dense layer other than those of
            queries, keys, and values.
        drop_path: probability that an image skips the attention, and the MLP.
    """

    heads: int
    hidden: int
    dropout: float = 0.0
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n t c"], train: bool) -> Float[Array, "n t c"]:
        """Returns the tokens after both."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        mlp = MLP(self.hidden, self.dropout, dtype=self.dtype, ops=self.ops, name="mlp")
        y = self.attention(self.layer_norm("norm1")(x))
        x += skip_at_random(drop(y), self.drop_path, train)
        y = mlp(self.layer_norm("norm2")(x), train)
        return x + skip_at_random(y, self.drop_path, train)

    def attention(self, x: Float[Array, "n t c"]) -> Float[Array, "n t c"]:
        """Returns what the tokens take from each other."""
        width = x.shape[-1]
        dense = functools.partial(self.dense, width, kernel_init=glorot_uniform())
        query, key, value = (
            dense(name)(x).reshape(*x.shape[:-1], self.heads, width // self.heads)
            for name in ("query", "key", "value")
        )
        y = jax.nn.dot_product_attention(query, key, value, implementation="xla")
        return dense("out")(y.reshape(x.shape))


class ViT(Network):
    """Vision Transformer.

    Kernels are initialized as by the authors: LeCun normal for the patches, 0 for the
    head, and Glorot uniform for the rest. Biases and the class token start at 0,
    learned positions as normal with standard deviation 0.02.

    Attributes:
        patch: height and width of a patch, which must divide those of the images.
        width: size of a token.
        depth: number of blocks, at most 200.
        heads: attention heads in each block, which must divide the width.
        mlp_ratio: width of the MLPs' hidden layers, as a multiple of `width`.
        pool: what the head sees: a class token, or the mean of the patches' tokens,
            as in Beyer et al., "Better plain ViT baselines for ImageNet-1k", 2022.
        positions: what is added to each token for its position: learned values, or
            fixed ones (see `sincos`).
        dropout: probability of dropping a value after the positions are added, and
            after each dense layer except those of queries, keys, and values.
        drop_path: probability that an image skips a part of the last block; it rises
            linearly from 0 in the first one (Huang et al., "Deep networks with
            stochastic depth", 2016).
    """

    patch: int = 4
    width: int = 192
    depth: int = 12
    heads: int = 3
    mlp_ratio: int = 4
    pool: Literal["token", "mean"] = "token"
    positions: Literal["learned", "sincos"] = "learned"
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        for name in ("patch", "width", "heads", "mlp_ratio"):
            check_range(name, getattr(self, name), at_least=1)
        check_range("depth", self.depth, at_least=1, at_most=200)
        check_range("dropout", self.dropout, at_least=0, below=1)
        check_range("drop_path", self.drop_path, at_least=0, below=1)
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")
        if self.positions == "sincos" and self.width % 4:
            raise ValueError(
                f"width={self.width} must be a multiple of 4 for positions='sincos'"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; applies dropout and skips blocks if `train` is true."""
        x = self.tokens(images)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for number in range(1, self.depth + 1):
            block = EncoderBlock(
                self.heads,
                self.mlp_ratio * self.width,
                self.dropout,
                self.drop_path * (number - 1) / max(self.depth - 1, 1),
                dtype=self.dtype,
                ops=self.ops,
                name=f"block{number}",
            )
            x = self.tap(f"block{number}", block(x, train))
        x = self.layer_norm("norm")(x)
        x = x[:, 0] if self.pool == "token" else x.mean(axis=1)
        return self.predictions(x, zeros_init())

    def tokens(
        self, images: Float[Array, "n h w c"]
    ) -> Float[Array, "n t {self.width}"]:
        """Returns the class token, if there is one, and a token for each patch."""
        x = self.tap("patches", patches(self, images, self.patch, self.width))
        count, height, width, _ = x.shape
        x = x.reshape(count, height * width, self.width)
        if self.positions == "sincos":
            x += sincos(height, width, self.width).astype(x.dtype)
        if self.pool == "token":
            token = self.param("class_token", zeros_init(), (1, 1, self.width))
            first = jnp.broadcast_to(token, (count, 1, self.width))
            x = jnp.concatenate([first.astype(x.dtype), x], axis=1)
        if self.positions == "learned":
            x += self.param(
                "position_embedding", normal(0.02), (1, *x.shape[1:])
            ).astype(x.dtype)
        return x


def sincos(
    rows: int, columns: int, width: int
) -> Float[Array, "{rows}*{columns} {width}"]:
    """Returns fixed values for the positions in a grid.

    Sines and cosines of the column and of the row, a quarter of the width each, with
    wavelengths from 2 pi to almost 10,000 times that (Chen et al., "An empirical study
    of training self-supervised Vision Transformers", 2021).
    """
    frequencies = 10_000.0 ** -(jnp.arange(width // 4) / (width // 4))
    row, column = jnp.indices((rows, columns)).reshape(2, -1, 1) * frequencies
    return jnp.concatenate(
        [jnp.sin(column), jnp.cos(column), jnp.sin(row), jnp.cos(row)], axis=1
    )


def skip_at_random(
    x: Float[Array, "n t c"], rate: float, train: bool
) -> Float[Array, "n t c"]:
    """Returns zeros for some images in training, the others divided by 1 - rate."""
    return nn.Dropout(rate, broadcast_dims=(1, 2), deterministic=not train)(x)


vit_ti = functools.partial(ViT, width=192, depth=12, heads=3)
vit_s = functools.partial(ViT, width=384, depth=12, heads=6)
vit_b = functools.partial(ViT, width=768, depth=12, heads=12)
