"""Tests the counts of operations on networks with known ones."""

import pytest
from flax import linen as nn

from cifar_jax import Network, models
from experiments.harness import flops
from experiments.speed.train_step import gflop_per_example


class Small(Network):
    @nn.compact
    def __call__(self, images, train=False):
        x = self.convolution(6, (3, 3), "conv1", strides=2)(images)
        x = self.convolution(6, (5, 5), "conv2", feature_group_count=3)(x)
        return self.predictions(x.mean(axis=(1, 2)), nn.initializers.zeros)


def test_convolutions_and_products_are_counted():
    parameters, operations = flops.forward(Small(num_classes=7), 8)
    conv1, conv2, dense = 3 * 3 * 3 * 6, 5 * 5 * 2 * 6, 6 * 7
    assert parameters == conv1 + 6 + conv2 + 6 + dense + 7
    assert operations == 2 * (4 * 4 * (conv1 + conv2) + dense)


@pytest.mark.parametrize(
    ("model", "published"),
    # Billions of multiplications at 224x224: 19.6 and 3.8 (He et al., 2016, figure 3
    # and table 1), and 0.569 (Howard et al., 2017, table 4).
    [("vgg19", 2 * 19.6e9), ("resnet50", 2 * 3.8e9), ("mobilenet", 2 * 0.569e9)],
)
def test_operations_of_networks_are_those_published(model, published):
    _, operations = flops.forward(models.create(model), 224)
    assert operations == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(
    ("model", "gflop"),
    # Counted by hand: six times the multiplications of a forward pass.
    [
        ("resnet18", 3.333),
        ("vgg16_bn", 1.879),
        ("mobilenet", 0.0696),
        ("resnext29", 4.635),
        ("cuda_convnet_18pct", 0.0738),
        ("cuda_convnet_11pct", 0.1171),
        ("airbench94_sgd", 0.7089),
    ],
)
def test_a_step_takes_three_times_the_operations_of_a_forward_pass(model, gflop):
    assert gflop_per_example(model) == pytest.approx(gflop, abs=1e-3)
