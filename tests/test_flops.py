"""Tests the counts of operations on networks with known ones."""

import pytest
from flax import linen as nn

from cifar_jax import Network, models
from experiments.harness import flops
from experiments.speed.train_step import GFLOP_PER_EXAMPLE


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


@pytest.mark.parametrize("model", sorted(GFLOP_PER_EXAMPLE.keys() - {"tutorial"}))
def test_a_step_takes_three_times_the_operations_of_a_forward_pass(model):
    size = 24 if model == "cuda_convnet_11pct" else 32
    _, operations = flops.forward(models.create(model, 10), size)
    step = 3 * operations / 1e9
    assert step == pytest.approx(GFLOP_PER_EXAMPLE[model], abs=1e-3)
