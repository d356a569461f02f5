"""Computes networks/*.npz: logits and gradients of networks written in PyTorch.

To recompute the files of some families, or of all, in a throwaway environment:

    pip install torch==2.13.0 numpy
    cd tests
    python -m golden.make_networks resnet

Everything is computed in float64. For each network, the file has the logits in
evaluation, those in training, and the norm of the gradient of each parameter, sorted by
name, for the mean cross-entropy.
"""

import importlib
import pathlib
import sys

import numpy as np
import torch
from golden import network_inputs as inputs
from torch import Tensor, nn
from torch.nn import functional

FOLDER = pathlib.Path(__file__).parent / "networks"
# PyTorch's names of parameters and buffers, where Flax has others.
FLAX_NAMES = {"running_mean": "mean", "running_var": "var"}
SIZE = 32


def flax_name(name: str, tensor: Tensor) -> str:
    """Returns the path in Flax of a parameter or buffer."""
    *layer, leaf = name.split(".")
    if leaf == "weight":
        leaf = "scale" if tensor.ndim == 1 else "kernel"
    return "/".join([*layer, FLAX_NAMES.get(leaf, leaf)])


def value(name: str, tensor: Tensor) -> Tensor:
    """Returns the value from `network_inputs`, in PyTorch's layout."""
    if not name.endswith("/kernel"):
        return torch.from_numpy(inputs.variable(name, tuple(tensor.shape)))
    # Flax keeps inputs before outputs, and the window before both.
    outputs_first = tuple(tensor.shape)
    flax_shape = (*outputs_first[2:], outputs_first[1], outputs_first[0])
    kernel = inputs.variable(name, flax_shape)
    axes = (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
    return torch.from_numpy(kernel.transpose(axes).copy())


def compute(network: nn.Module) -> dict[str, np.ndarray]:
    """Returns the golden values of a network."""
    network.double()
    with torch.no_grad():
        tensors = dict(network.named_parameters()) | dict(network.named_buffers())
        for name, tensor in tensors.items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(value(flax_name(name, tensor), tensor))
    x = torch.from_numpy(inputs.images(SIZE).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        evaluated = network.eval()(x)
    logits = network.train()(x)
    functional.cross_entropy(logits, torch.from_numpy(inputs.labels())).backward()
    norms = {
        flax_name(name, parameter): float(parameter.grad.norm())
        for name, parameter in network.named_parameters()
    }
    return {
        "evaluated": evaluated.numpy(),
        "logits": logits.detach().numpy(),
        "norms": np.array([norms[name] for name in sorted(norms)]),
    }


def main() -> None:
    """Computes the families named on the command line, or all of them."""
    files = sorted(FOLDER.glob("[!_]*.py"))
    for family in sys.argv[1:] or [file.stem for file in files]:
        module = importlib.import_module(f"golden.networks.{family}")
        values = {
            f"{model} {name}": array
            for model, create in module.NETWORKS.items()
            for name, array in compute(create()).items()
        }
        np.savez_compressed(FOLDER / f"{family}.npz", **values)
        print(f"{family}: {', '.join(module.NETWORKS)}")


if __name__ == "__main__":
    main()
