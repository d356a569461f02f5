import jax
import numpy as np
import pytest
from helpers import SmallBatchNorm
from servers import running

from cifar_jax import Config, Trained


@pytest.fixture(scope="session")
def network() -> Trained:
    """Returns a network with random variables whose convolution is recorded."""
    model = SmallBatchNorm(num_classes=12)
    images = np.zeros((1, 24, 24, 3), np.float32)
    return Trained(
        model=model,
        variables=jax.jit(model.init)(jax.random.key(0), images),
        preprocessing=Config().preprocessing,
        statistics=None,
        step=3,
        class_names=tuple("abcdefghijkl"),
        image_shape=(32, 32, 3),
    )


@pytest.fixture(scope="module")
def address(network):
    """Returns the address of a server in a thread of this process."""
    with running(network) as (host, port):
        yield f"http://{host}:{port}"
