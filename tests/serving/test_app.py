"""Tests the page's server: what it answers, refuses and keeps."""

import asyncio
import contextlib
import dataclasses
import importlib.resources
import io
import logging
import os
import re
import socket
import struct
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from PIL import Image
from servers import running

from cifar_jax import read_picture, serving
from cifar_jax.serving import app


def png(height: int = 32, width: int = 32) -> bytes:
    """Returns a file with random pixels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """Returns a small file that claims to have 900 million pixels."""
    body = bytearray(png())
    body[16:24] = struct.pack(">II", 30_000, 30_000)
    body[29:33] = struct.pack(">I", zlib.crc32(body[12:29]))
    return bytes(body)


# Pillow would start Ghostscript for it.
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
BAD_FILES = {
    "empty": (b"", "not a readable picture"),
    "text": (b"no picture", "not a readable picture"),
    "page": (b"<html><script>alert(1)</script>", "not a readable picture"),
    "eps": (EPS, "not a readable picture"),
    "truncated": (png()[:500], "cannot read the file"),
    "bomb": (bomb(), "the file is too large"),
}


def post(address: str, body: object, **headers: str) -> requests.Response:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{address}/classify", body, headers=headers, timeout=30)


def error_of(response: requests.Response) -> str:
    """Returns the message of a refusal, which must be one line."""
    (name, message), *rest = response.json().items()
    assert (name, rest) == ("error", [])
    assert message.isprintable()
    return message


def test_a_picture_gets_an_answer(address):
    response = post(address, png(50, 50))
    assert response.status_code == 200
    answer = response.json()
    probabilities = [c["probability"] for c in answer["classes"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert [layer["name"] for layer in answer["layers"]] == ["conv"]


def test_the_page_loads_nothing_from_elsewhere(address):
    page = requests.get(address, timeout=30)
    files = re.findall(r'(?:src|href)="([^":]+)"', page.text)
    assert files == ["page.css", "page.js"]
    scripts = (path.name for path in importlib.resources.files(serving).iterdir())
    for name in ("page.css", *(name for name in scripts if name.endswith(".js"))):
        found = requests.get(f"{address}/{name}", timeout=30)
        assert found.text == (importlib.resources.files(serving) / name).read_text()
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert "//" not in re.sub(r"// .*", "", found.text)
    assert "a &lt;small&gt; network" in page.text
    assert "12 classes: a, b, c, d, e, f, g, h, i, j and others" in page.text
    assert "$" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_get_a_message(address, kind):
    body, message = BAD_FILES[kind]
    response = post(address, body)
    assert response.status_code == 400
    assert message in error_of(response)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("excess", "status"), [(0, 400), (1, 413)])
def test_the_largest_file(address, chunked, excess, status):
    body = bytes(app.MOST_BYTES + excess)
    response = post(address, iter([body[:9], body[9:]]) if chunked else body)
    assert response.status_code == status
    message = "larger than 20 MB" if excess else "not a readable picture"
    assert message in error_of(response)


def post_directly(page, body: bytes, more_body: bool = False) -> tuple[int, int]:
    """Posts a body, without an end if there is more; returns the status and reads."""
    sent, reads = [], 0

    async def receive():
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": body, "more_body": more_body}

    async def send(message):
        sent.append(message)

    scope = {
        **{"type": "http", "method": "POST", "path": "/classify", "root_path": ""},
        **{"query_string": b"", "headers": [(b"host", b"localhost")]},
    }
    asyncio.run(page(scope, receive, send))
    return sent[0]["status"], reads


def test_a_body_without_an_end_is_not_read_on(network):
    page = app.create(network, "", "localhost")
    status, reads = post_directly(page, bytes(1 << 20), more_body=True)
    assert reads << 20 == app.MOST_BYTES + (1 << 20)
    assert status == 413


@pytest.mark.parametrize("value_range", [None, (0.0, 2.0)])
def test_floats_are_scaled_by_the_range_of_the_network(network, value_range):
    file = io.BytesIO()
    Image.fromarray(np.ones((32, 32), np.float32)).save(file, "TIFF")
    network = dataclasses.replace(network, value_range=value_range)
    status, _ = post_directly(app.create(network, "", "localhost"), file.getvalue())
    assert status == (400 if value_range is None else 200)


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_pictures_are_resized_as_asked_for(network, resize, monkeypatch):
    seen = []
    monkeypatch.setattr(app, "answer", lambda _, picture: seen.append(picture) or {})
    file = png(50, 90)
    own = app.create(network, "", "localhost", resize=resize)
    assert post_directly(own, file)[0] == 200
    expected = read_picture(io.BytesIO(file), network.image_shape, resize=resize)
    np.testing.assert_array_equal(seen[0], expected)


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        *((host, True) for host in ("127.0.0.1", "localhost", "[::1]:80")),
        ("MY-machine", True),
        *((host, True) for host in ("127.0.0.1:9", "192.168.1.5:8000")),
        *((host, True) for host in ("proxy.example", "Proxy.example:443")),
        *((host, False) for host in ("evil.example", "evil.example:8000", "")),
        *((host, False) for host in ("127.0.0.1.evil.example", "localhost.example")),
        *((host, False) for host in ("evil.example:80:80", "evil_.example", "[::1")),
        *((host, False) for host in ("127.0.0.1/.evil.example", "127.0.0.1?evil")),
        *((host, False) for host in ("x@evil.example", "evil.example#127.0.0.1")),
    ],
)
def test_requests_must_name_this_server(address, host, is_own):
    response = requests.get(address, headers={"Host": host}, timeout=30)
    assert response.status_code == (200 if is_own else 403)
    if not is_own:
        assert "this page is not served at" in error_of(response)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # not from a browser
        ({"Origin": "{address}"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "https://proxy.example.evil.example"}, 403),
        # A proxy that forwards neither its name nor the browser's header.
        ({"Origin": "https://proxy.example"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://a.tunnel"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "{address}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_sites_cannot_send_pictures(address, headers, status):
    headers = {name: value.format(address=address) for name, value in headers.items()}
    response = post(address, png(), **headers)
    assert response.status_code == status
    if status == 403:
        assert error_of(response) == "pages of other sites may not send pictures"


def test_other_addresses_and_methods(address):
    assert requests.get(f"{address}/classify", timeout=30).status_code == 405
    response = requests.get(f"{address}/../page.html", timeout=30)
    assert (response.status_code, error_of(response)) == (404, "Not Found")


@pytest.fixture
def effects():
    """Returns a list of the files written and programs started during the test."""
    found: list[tuple[str, object]] = []
    recording = True

    def hook(event, arguments):
        if not recording:
            return
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            found.append((event, arguments[0]))
        elif event.startswith(("subprocess", "os.exec", "os.posix_spawn", "os.mkdir")):
            found.append((event, arguments))

    sys.addaudithook(hook)  # It cannot be removed.
    yield found
    recording = False


def test_nothing_is_written(address, effects, tmp_path, caplog):
    bodies = [png(), *(body for body, _ in BAD_FILES.values())]
    for body in bodies:  # Modules are imported when they are first used.
        post(address, body)
    effects.clear()
    for body in bodies:
        post(address, body)
    assert effects == []
    assert caplog.messages == []
    (tmp_path / "file").touch()
    assert len(effects) == 1


def test_a_client_that_leaves(address, caplog):
    host, port = address.removeprefix("http://").split(":")
    head = "POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + b"abc")
    assert post(address, png()).status_code == 200
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_pictures_wait_for_each_other_but_the_page_does_not(address, monkeypatch):
    entered, leave, running = threading.Semaphore(0), threading.Event(), []

    def slow(network, picture):
        running.append(len(running))
        entered.release()
        leave.wait(30)
        return {"before": running.pop()}

    monkeypatch.setattr(app, "answer", slow)
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(post, address, png()) for _ in range(3)]
        entered.acquire()
        assert requests.get(address, timeout=30).status_code == 200
        leave.set()
        assert [a.result().json() for a in answers] == [{"before": 0}] * 3


def flat(width: int, height: int) -> bytes:
    """Returns a small file with many pixels."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("size", [(13_300, 13_300), (50_000_001, 1), (7_072, 7_072)])
def test_pictures_of_too_many_pixels_are_not_decoded(address, size, monkeypatch):
    monkeypatch.setattr(app, "read_picture", lambda *_: pytest.fail("decoded"))
    response = post(address, flat(*size))
    assert response.status_code == 400
    assert "the file is too large" in error_of(response)
    assert "50" in error_of(response)


def test_others_are_answered_while_a_large_picture_is_read(address, monkeypatch):
    entered, leave, read = threading.Event(), threading.Event(), app.read_picture

    def slow(file, *arguments):
        if len(file.getvalue()) != len(png()):
            entered.set()
            assert leave.wait(30)
        return read(file, *arguments)

    monkeypatch.setattr(app, "read_picture", slow)
    with ThreadPoolExecutor(2) as clients:
        large = [clients.submit(post, address, flat(2_001, 2_000)) for _ in range(2)]
        assert entered.wait(30)
        assert post(address, png()).status_code == 200
        assert not any(one.done() for one in large)
        leave.set()
        assert [one.result().status_code for one in large] == [200, 200]


def test_too_little_memory_is_no_damage(address, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageOps.fit", fail)
    response = post(address, png())
    assert response.status_code == 503
    assert "not enough memory for the file" in error_of(response)


def test_names_that_cannot_be_encoded_are_escaped(network):
    page = app.render_page(network, "r\udce9sum\ud800 \x1b[31m")
    assert r"r\udce9sum\ud800 \x1b[31m" in page.encode().decode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost:",
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
    ],
)
def test_idle_connections_are_closed(network, monkeypatch, sent):
    monkeypatch.setattr(app, "IDLE_SECS", 0.3)
    with running(network) as place, socket.create_connection(place) as client:
        client.sendall(sent)
        client.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_connections_that_wait_for_an_answer_stay_open(network, monkeypatch):
    monkeypatch.setattr(app, "IDLE_SECS", 0.3)
    monkeypatch.setattr(app, "answer", lambda *_: time.sleep(1) or {})
    with running(network) as (host, port):
        assert post(f"http://{host}:{port}", png()).json() == {}
