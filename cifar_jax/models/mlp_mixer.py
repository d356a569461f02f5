"""MLP-Mixer: MLPs over the patches of an image, and over their channels.

Tolstikhin et al., "MLP-Mixer: An all-MLP architecture for vision", 2021.
"""

from flax import linen as nn
from flax.linen.initializers import zeros_init
from jaxtyping import Array, Float

from cifar_jax.checks import check_range
from cifar_jax.models.block import Block
from cifar_jax.models.network import Network
from cifar_jax.models.patches import patches
from cifar_jax.models.vit import MLP, skip_at_random


class MixerBlock(Block):
    """Two MLPs, each normalized before and added to its input.

    Attributes:
        token_hidden: width of the hidden layer of the MLP over patches.
        channel_hidden: width of that of the MLP over channels.
        drop_path: probability that an image skips each MLP.
    """

    token_hidden: int
    channel_hidden: int
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n t c"], train: bool) -> Float[Array, "n t c"]:
        """Returns the tokens after both."""
        tokens, channels = (
            MLP(hidden, dtype=self.dtype, ops=self.ops, name=name)
            for hidden, name in (
                (self.token_hidden, "mlp_tokens"),
                (self.channel_hidden, "mlp_channels"),
            )
        )
        y = self.layer_norm("norm1")(x).swapaxes(1, 2)
        y = tokens(y, train).swapaxes(1, 2)
        x += skip_at_random(y, self.drop_path, train)
        y = channels(self.layer_norm("norm2")(x), train)
        return x + skip_at_random(y, self.drop_path, train)


class MLPMixer(Network):
    """MLP-Mixer, by default the smallest one of the paper, S, with patches of 4x4.

    The number of parameters depends on the number of patches. Kernels are initialized
    as by the authors: LeCun normal for the patches, Glorot uniform for the MLPs, 0 for
    the head.

    Attributes:
        patch: height and width of a patch, which must divide those of the images.
        width: channels of each patch.
        depth: number of blocks, at most 200.
        token_hidden: width of the hidden layers of the MLPs over patches.
        channel_hidden: width of those of the MLPs over channels.
        drop_path: probability that an image skips an MLP of the last block; it rises
            linearly from 0 in the first one (Huang et al., "Deep networks with
            stochastic depth", 2016).
    """

    patch: int = 4
    width: int = 512
    depth: int = 8
    token_hidden: int = 256
    channel_hidden: int = 2048
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        for name in ("patch", "width", "token_hidden", "channel_hidden"):
            check_range(name, getattr(self, name), at_least=1)
        check_range("depth", self.depth, at_least=1, at_most=200)
        check_range("drop_path", self.drop_path, at_least=0, below=1)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], train: bool = False
    ) -> Float[Array, "n {self.num_classes}"]:
        """Returns logits; skips MLPs if `train` is true."""
        x = self.tap("patches", patches(self, images, self.patch, self.width))
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2], self.width)
        for number in range(1, self.depth + 1):
            block = MixerBlock(
                self.token_hidden,
                self.channel_hidden,
                self.drop_path * (number - 1) / max(self.depth - 1, 1),
                dtype=self.dtype,
                ops=self.ops,
                name=f"block{number}",
            )
            x = self.tap(f"block{number}", block(x, train))
        x = self.layer_norm("norm")(x).mean(axis=1)
        return self.predictions(x, zeros_init())
