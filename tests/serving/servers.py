"""Servers for the page, running in this process."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from cifar_jax import Trained
from cifar_jax.serving import app


@contextlib.contextmanager
def running(network: Trained) -> Iterator[tuple[str, int]]:
    """Runs a server in a thread; yields its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        page = app.create(network, "a <small> network", "my-machine", ["proxy.example"])
        server = app.server(page)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()
