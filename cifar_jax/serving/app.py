"""The demo's web application: a page, and an answer to each picture it sends."""

import asyncio
import contextlib
import html
import importlib.resources
import io
import ipaddress
import string
from collections.abc import Awaitable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from jaxtyping import UInt8
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cifar_jax.console import to_one_line
from cifar_jax.data.folder.pictures import Resizing, count_pixels, read_picture
from cifar_jax.errors import RunError, UserError
from cifar_jax.evaluation.inference import Trained
from cifar_jax.serving.answer import answer

# Phone photos have a few megabytes.
MOST_BYTES = 20 << 20
# Each one takes up to 16 bytes while a picture is read. Phone photos have up to 50
# million.
MOST_PIXELS = 50_000_000
# Pictures with up to this many pixels are read within a second.
_MANY_PIXELS = 4_000_000
# A connection is closed after it has sent nothing for this long.
IDLE_SECS = 60.0
# The formats that browsers show and Pillow reads without starting other programs.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
# The page's scripts; the first one imports the others.
_SCRIPTS = ("page.js", "answers.js", "examples.js", "language.js")
_HEADERS = {
    # Only this server's own files are loaded and run, and no site may embed them.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class _Upload(io.BytesIO):
    """An uploaded file, with the name that messages use for it."""

    name = "the file"


def create(
    network: Trained,
    title: str,
    host: str,
    names: Sequence[str] = (),
    resize: Resizing = "crop",
) -> Starlette:
    """Returns the application.

    It neither stores nor logs what it receives. One thread reads and classifies
    pictures, one at a time, while the server keeps accepting requests. Another thread
    reads large pictures, which takes seconds.

    Args:
        network: Classifies the pictures.
        title: Describes the network; visible to everyone who opens the page.
        host: The name or address that the server listens on.
        names: Other host names by which browsers may open the page, such as a proxy's.
        resize: How pictures are resized for the network, see `read_picture`.
    """
    thread, thread_of_large = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    def read(body: bytes) -> UInt8[np.ndarray, "h w 3"]:
        return read_picture(
            _Upload(body), network.image_shape, FORMATS, network.value_range, resize
        )

    async def classified(body: bytes) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        count = await loop.run_in_executor(thread, count_pixels, _Upload(body), FORMATS)
        if count > MOST_PIXELS:
            raise UserError(
                f"the file is too large, {count / 1e6:.0f} million pixels; scale it "
                f"down to {MOST_PIXELS // 1_000_000}"
            )
        reader = thread if count <= _MANY_PIXELS else thread_of_large
        picture = await loop.run_in_executor(reader, read, body)
        return await loop.run_in_executor(thread, answer, network, picture)

    async def classify(request: Request) -> Response:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # The client has gone away.
        try:
            return JSONResponse(await classified(body))
        except UserError as error:
            raise HTTPException(400, str(error)) from None
        except RunError as error:  # not enough memory
            raise HTTPException(503, str(error)) from None

    page = render_page(network, title)
    return Starlette(
        routes=[
            Route("/", _file(page, "text/html")),
            Route("/page.css", _file(_text("page.css"), "text/css")),
            *(Route(f"/{x}", _file(_text(x), "text/javascript")) for x in _SCRIPTS),
            Route("/classify", classify, methods=["POST"]),
        ],
        middleware=[Middleware(_Guard, host=host, proxies=names)],
        exception_handlers={HTTPException: _explained},
    )


def server(app: Starlette) -> uvicorn.Server:
    """Returns a server whose `run([socket])` serves until the process ends."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    return _Server(config)


class _Protocol(H11Protocol):
    """Closes connections on which no request arrives, or no complete one."""

    def connection_made(self, transport: Any) -> None:  # of any event loop
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._check = self.loop.call_later(IDLE_SECS, self._close_if_idle)

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        request = self.cycle
        if request and not (request.more_body or request.response_complete):
            self._heard = self.loop.time()  # The client is waiting for the answer.
        left = self._heard + IDLE_SECS - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(left, self._close_if_idle)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn would wait for open connections, but there is nothing to save, so this
        # process ends the way all commands do.
        yield


class _Guard:
    """Refuses requests from other sites, and adds headers to every response."""

    def __init__(self, app: ASGIApp, host: str, proxies: Sequence[str]):
        self._app = app
        self._proxies = {name.lower() for name in proxies}
        self._names = {"localhost", host.lower()} | self._proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app: ASGIApp = self._app
        if reason := self._refusal(Request(scope)):
            app = JSONResponse({"error": reason}, 403)
        await app(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> str | None:
        # A site can briefly point its own name here, so that browsers take this server
        # for the same origin (DNS rebinding). It cannot do so with an address.
        host = request.headers.get("host", "")
        if not self._is_own(host):
            return (
                f"this page is not served at {host!r}; open it by its address, or "
                "start it with --allow_host=NAME"
            )
        if request.method == "POST" and self._is_cross_site(request, host):
            return "pages of other sites may not send pictures"
        return None

    def _is_own(self, host: str) -> bool:
        name = _host_name(f"//{host}")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _is_cross_site(self, request: Request, host: str) -> bool:
        """Returns whether, according to the browser, another site sent the request."""
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site != "same-origin"
        # Browsers omit this header unless the page came from this machine or by https.
        origin = request.headers.get("origin")
        if origin is None or origin.partition("://")[2] == host:
            return False
        # A proxy may pass on a different host name than the browser's.
        return _host_name(origin) not in self._proxies


def _host_name(address: str) -> str:
    """Returns the name or address in //name:port; empty for any other form."""
    try:
        parts = urlsplit(address)
        whole = parts.netloc + parts.path + parts.query + parts.fragment
        return (parts.hostname or "") if whole == parts.netloc else ""
    except ValueError:
        return ""


async def _body(request: Request) -> bytes:
    """Returns the body of a request, reading no more than is allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(
                413,
                f"the file is larger than {MOST_BYTES >> 20} MB; scale it down first",
            )
    return bytes(body)


async def _explained(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = to_one_line(error.detail)
    return JSONResponse({"error": detail}, error.status_code, error.headers)


def render_page(network: Trained, title: str) -> str:
    """Returns the HTML of the page, with all names escaped."""
    names = network.class_names
    some = ", ".join(names[:10])
    more = " and others" if len(names) > 10 else ""
    count = f"{len(names):,}"
    classes = f"{count} class{'es' if len(names) > 1 else ''}: {some}{more}"
    return string.Template(_text("page.html")).substitute(
        title=html.escape(to_one_line(title)),
        classes=html.escape(to_one_line(classes)),
        count=count,
        some=html.escape(to_one_line(some)),
        formats=", ".join(FORMATS),
        bytes=MOST_BYTES,
        megabytes=MOST_BYTES >> 20,
    )


def _text(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _file(text: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return Response(text, media_type=kind)

    return send
