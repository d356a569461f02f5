"""Serves a page to try out a network: python -m cifar_jax.demo.

Drop a picture on the page or draw one: the page shows the classes, and what each layer
makes of the picture. Only browsers on this machine can open the page, unless --host
says otherwise; pictures are neither stored nor sent anywhere else. Ctrl-C stops it.
"""

from cifar_jax import startup

if __name__ == "__main__":
    startup.prepare()

import socket
from collections.abc import Sequence

import numpy as np
from absl import flags

from cifar_jax import command, console, extras, network_flags
from cifar_jax.errors import UserError
from cifar_jax.training import interrupts


def main(arguments: Sequence[str]) -> None:
    """Runs the command until a signal ends it."""
    command.refuse_arguments(arguments)
    options = flags.FLAGS
    extras.require("the page", "demo", "matplotlib", "starlette", "uvicorn")
    from cifar_jax.serving import answer, app

    network, _, note, title, resize = network_flags.load()
    with _listen(options.host, options.port) as listener:
        console.say(note)
        console.say(
            "compiling the network; this may take a minute; later starts are quick"
        )
        answer.answer(network, np.zeros(network.image_shape, np.uint8))
        host = f"[{options.host}]" if ":" in options.host else options.host
        port = listener.getsockname()[1]
        console.say(f"open http://{host}:{port} in a browser; Ctrl-C stops the server")
        page = app.create(network, title, options.host, options.allow_host, resize)
        interrupts.end_on_signals()
        app.server(page).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on --host={host} --port={port}: {problem}; pass different "
            "values (--port=0 finds a free port)"
        ) from None


def define_flags() -> None:
    """Defines the flags of this command."""
    network_flags.define()
    flags.DEFINE_string(
        "host",
        "127.0.0.1",
        "Address to listen on. With this machine's network address, or 0.0.0.0 for all "
        "of its addresses, others can open the page, too.",
    )
    flags.DEFINE_list(
        "allow_host",
        [],
        "Other host names by which browsers may open the page, such as that of a proxy "
        "in front of it.",
    )
    flags.DEFINE_integer(
        "port",
        8000,
        "Port to listen on; 0 finds a free one.",
        lower_bound=0,
        upper_bound=65535,
    )


if __name__ == "__main__":
    command.run(main, define_flags, __doc__)
