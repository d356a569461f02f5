"""What Keras calls the layers of its networks, now and in earlier versions."""

import re
from collections.abc import Sequence

# An unnamed layer is named by its kind, convolution2d in Keras 1, and a number, except
# for the first one that a process creates.
_CONV = r"(?:depthwise_?|separable_?)?conv(?:olution)?2d"
_AUTOMATIC = re.compile(rf"(?:{_CONV}|batch_?normalization|dense)(?:_\d+)?")
# The ones that networks here have.
_KINDS = {
    "conv2d": "conv2d",
    "convolution2d": "conv2d",
    "batch_normalization": "batch_normalization",
    "batchnormalization": "batch_normalization",
}
_NUMBERED = re.compile(rf"({'|'.join(_KINDS)})(?:_(\d+))?")
# Until 2019, the layers of ResNet50 had their Caffe names, except for the last one.
_RESNET50 = {
    "conv1": "conv1_conv",
    "bn_conv1": "conv1_bn",
    "fc1000": "predictions",
    "probs": "predictions",
}
_BRANCH = re.compile(r"(res|bn)([2-5])([a-f])_branch(1|2a|2b|2c)")
_BRANCHES = {"1": 0, "2a": 1, "2b": 2, "2c": 3}


def is_automatic(name: str) -> bool:
    """Returns whether a name is one that Keras gives to unnamed layers."""
    return _AUTOMATIC.fullmatch(name) is not None


def to_current(names: Sequence[str], network: str | None) -> list[str]:
    """Returns the names of layers as they are in today's Keras.

    Unnamed layers are numbered as in the first model of a process.

    Args:
        names: the names of all layers of a model.
        network: the Keras network that they belong to, if any.
    """
    if network == "resnet50":
        names = [_rename_resnet50(name) for name in names]
    found = [_NUMBERED.fullmatch(name) for name in names]
    numbered = [match and (_KINDS[match[1]], int(match[2] or 0)) for match in found]
    first: dict[str, int] = {}
    for kind, number in filter(None, numbered):
        first[kind] = min(number, first.get(kind, number))
    renumbered = []
    for name, own in zip(names, numbered, strict=True):
        if own is not None:
            kind, number = own
            number -= first[kind]
            name = f"{kind}_{number}" if number else kind
        renumbered.append(name)
    return renumbered


def _rename_resnet50(name: str) -> str:
    found = _BRANCH.fullmatch(name)
    if found is None:
        return _RESNET50.get(name, name)
    what, stage, block, branch = found.groups()
    number = "abcdef".index(block) + 1
    suffix = "conv" if what == "res" else "bn"
    return f"conv{stage}_block{number}_{_BRANCHES[branch]}_{suffix}"
