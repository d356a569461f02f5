import socket
import threading

import jax
import numpy as np
import pytest
from helpers import SmallBatchNorm

from cifar_jax import Config, Trained
from cifar_jax.serving import app


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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        page = app.create(network, "a <small> network", "my-machine", ["proxy.example"])
        server = app.server(page)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
