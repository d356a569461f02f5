"""What PyTorch libraries call the layers of the networks.

Libraries count from 0 where layers here count from 1, so all numbers, written {}, are
one higher here.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from cifar_jax.models.conv_mixer import ConvMixer
from cifar_jax.models.mlp_mixer import MLPMixer
from cifar_jax.models.network import Network
from cifar_jax.models.preact_resnet import WideResNet
from cifar_jax.models.resnet import CifarBottleneckResNet, CifarResNet
from cifar_jax.models.vit import ViT

# The names in PyTorch of each layer. One layer there may be several here, separated by
# spaces, whose outputs are consecutive parts of its outputs.
Table = Mapping[str, tuple[str, ...]]

# The first ones are those of torchvision and timm, the others kuangliu/pytorch-cifar's.
_RESNET: Table = {
    "conv1_conv": ("conv1",),
    "conv1_bn": ("bn1",),
    "conv{}_block{}_1_conv": ("layer{}.{}.conv1",),
    "conv{}_block{}_1_bn": ("layer{}.{}.bn1",),
    "conv{}_block{}_2_conv": ("layer{}.{}.conv2",),
    "conv{}_block{}_2_bn": ("layer{}.{}.bn2",),
    "conv{}_block{}_3_conv": ("layer{}.{}.conv3",),
    "conv{}_block{}_3_bn": ("layer{}.{}.bn3",),
    "conv{}_block{}_0_conv": ("layer{}.{}.downsample.0", "layer{}.{}.shortcut.0"),
    "conv{}_block{}_0_bn": ("layer{}.{}.downsample.1", "layer{}.{}.shortcut.1"),
    "predictions": ("fc", "linear"),
}

# The usual names in PyTorch, as in RobustBench; timm and torchvision have only WRNs for
# ImageNet.
_WIDE_RESNET: Table = {
    "conv1_conv": ("conv1",),
    "conv{}_block{}_1_bn": ("block{}.layer.{}.bn1",),
    "conv{}_block{}_1_conv": ("block{}.layer.{}.conv1",),
    "conv{}_block{}_2_bn": ("block{}.layer.{}.bn2",),
    "conv{}_block{}_2_conv": ("block{}.layer.{}.conv2",),
    "conv{}_block{}_0_conv": ("block{}.layer.{}.convShortcut",),
    "last_bn": ("bn1",),
    "predictions": ("fc",),
}

# timm, torchvision, and Transformers (ViTForImageClassification).
_TORCHVISION_BLOCK = "encoder.layers.encoder_layer_{}"
_TRANSFORMERS_BLOCK = "vit.encoder.layer.{}"
_VIT: Table = {
    "class_token": ("cls_token", "class_token", "vit.embeddings.cls_token"),
    "position_embedding": (
        "pos_embed",
        "encoder.pos_embedding",
        "vit.embeddings.position_embeddings",
    ),
    "patches": (
        "patch_embed.proj",
        "conv_proj",
        "vit.embeddings.patch_embeddings.projection",
    ),
    "block{}/norm1": (
        "blocks.{}.norm1",
        f"{_TORCHVISION_BLOCK}.ln_1",
        f"{_TRANSFORMERS_BLOCK}.layernorm_before",
    ),
    "block{}/query block{}/key block{}/value": (
        "blocks.{}.attn.qkv",
        f"{_TORCHVISION_BLOCK}.self_attention.in_proj",
    ),
    "block{}/query": (f"{_TRANSFORMERS_BLOCK}.attention.attention.query",),
    "block{}/key": (f"{_TRANSFORMERS_BLOCK}.attention.attention.key",),
    "block{}/value": (f"{_TRANSFORMERS_BLOCK}.attention.attention.value",),
    "block{}/out": (
        "blocks.{}.attn.proj",
        f"{_TORCHVISION_BLOCK}.self_attention.out_proj",
        f"{_TRANSFORMERS_BLOCK}.attention.output.dense",
    ),
    "block{}/norm2": (
        "blocks.{}.norm2",
        f"{_TORCHVISION_BLOCK}.ln_2",
        f"{_TRANSFORMERS_BLOCK}.layernorm_after",
    ),
    "block{}/mlp/fc1": (
        "blocks.{}.mlp.fc1",
        f"{_TORCHVISION_BLOCK}.mlp.0",
        f"{_TRANSFORMERS_BLOCK}.intermediate.dense",
    ),
    "block{}/mlp/fc2": (
        "blocks.{}.mlp.fc2",
        f"{_TORCHVISION_BLOCK}.mlp.3",
        f"{_TRANSFORMERS_BLOCK}.output.dense",
    ),
    "norm": ("norm", "encoder.ln", "vit.layernorm"),
    "predictions": ("head", "heads.head", "classifier"),
}

# timm.
_CONV_MIXER: Table = {
    "patches_conv": ("stem.0",),
    "patches_bn": ("stem.2",),
    "block{}_places_conv": ("blocks.{}.0.fn.0",),
    "block{}_places_bn": ("blocks.{}.0.fn.2",),
    "block{}_channels_conv": ("blocks.{}.1",),
    "block{}_channels_bn": ("blocks.{}.3",),
    "predictions": ("head",),
}
_MLP_MIXER: Table = {
    "patches": ("stem.proj",),
    "block{}/norm1": ("blocks.{}.norm1",),
    "block{}/mlp_tokens/fc1": ("blocks.{}.mlp_tokens.fc1",),
    "block{}/mlp_tokens/fc2": ("blocks.{}.mlp_tokens.fc2",),
    "block{}/norm2": ("blocks.{}.norm2",),
    "block{}/mlp_channels/fc1": ("blocks.{}.mlp_channels.fc1",),
    "block{}/mlp_channels/fc2": ("blocks.{}.mlp_channels.fc2",),
    "norm": ("norm",),
    "predictions": ("head",),
}

# By exact class: a network that derives from one of these may compute something else
# from the same parameters.
TABLES: Mapping[type[Network], Table] = {
    CifarResNet: _RESNET,
    CifarBottleneckResNet: _RESNET,
    WideResNet: _WIDE_RESNET,
    ViT: _VIT,
    ConvMixer: _CONV_MIXER,
    MLPMixer: _MLP_MIXER,
}


# The rows that are parameters, not layers.
_PARAMETERS = ("class_token", "position_embedding")


class Place(NamedTuple):
    """Where a tensor belongs.

    Attributes:
        layers: the layers here, in the order of their parts in the tensor.
        leaf: the tensor's name within its layer in PyTorch, such as weight; None for a
            parameter that belongs to no layer.
    """

    layers: tuple[str, ...]
    leaf: str | None


def find(name: str, table: Table) -> Place | None:
    """Returns the place of a tensor by its name in a state dict; None if unknown."""
    # As in a network that was wrapped in DataParallel or compiled.
    name = re.sub(r"^(module\.|_orig_mod\.)+", "", name)
    # The queries, keys, and values of nn.MultiheadAttention are not from a layer.
    name = re.sub(r"\.in_proj_(\w+)$", r".in_proj.\1", name)
    layer, _, leaf = name.rpartition(".")
    for here, there in table.items():
        whole = here in _PARAMETERS
        for candidate in there:
            pattern = re.escape(candidate).replace(r"\{\}", r"(\d+)")
            if found := re.fullmatch(pattern, name if whole else layer):
                numbers = [int(number) + 1 for number in found.groups()]
                layers = tuple(part.format(*numbers) for part in here.split())
                return Place(layers, None if whole else leaf)
    return None
