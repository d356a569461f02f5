"""Prints what PyTorch's SGD makes of a weight, for test_optimizer.py.

In a throw-away environment:

    pip install torch==2.13.0
    python tests/golden/make_sgd.py
"""

import torch

GRADIENTS = (1.0, -0.5, 2.0, 0.25)

for nesterov in (False, True):
    weight = torch.tensor(3.0, requires_grad=True)
    sgd = torch.optim.SGD(
        [weight], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov
    )
    weights = []
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        sgd.step()
        weights.append(round(weight.item(), 7))
    print(f"nesterov={nesterov}: {weights}")
