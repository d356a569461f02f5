"""Prints a weight after each step of PyTorch's SGD and AdamW, for test_optimizers.py.

To run it in a throwaway environment:

    pip install torch==2.13.0
    python tests/golden/make_optimizers.py
"""

import functools

import torch

GRADIENTS = (1.0, -0.5, 2.0, 0.25)
SGD = functools.partial(torch.optim.SGD, momentum=0.9)
OPTIMIZERS = {
    "SGD": SGD,
    "SGD, Nesterov": functools.partial(SGD, nesterov=True),
    "AdamW": torch.optim.AdamW,
}

for name, create in OPTIMIZERS.items():
    weight = torch.tensor(3.0, requires_grad=True)
    optimizer = create([weight], lr=0.1, weight_decay=0.01)
    weights = []
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        weights.append(round(weight.item(), 7))
    print(f"{name}: {weights}")
