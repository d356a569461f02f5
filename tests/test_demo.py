"""Tests the demo command and its documentation."""

import asyncio
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest
import requests
from helpers import assert_one_line, read_until, started
from PIL import Image
from starlette.applications import Starlette

from cifar_jax.serving import app

DOCS = pathlib.Path(__file__).parents[1] / "docs"
TEXT = (DOCS / "demo.md").read_text()


@pytest.fixture
def flag(finished_run):
    return f"--checkpoint_dir={finished_run}"


def call_curl(address: str, folder: pathlib.Path) -> dict:
    """Sends a picture with the command in the docs; returns the answer."""
    Image.new("RGB", (40, 30), "green").save(folder / "cat.jpg")
    (line,) = re.findall(r"^    (curl .*)$", TEXT, re.MULTILINE)
    words = line.replace("http://127.0.0.1:8000", address).split()
    done = subprocess.run(words, cwd=folder, capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_address_is_printed_and_answers_until_a_signal(
    tmp_path, digits_run, signum
):
    flag = f"--checkpoint_dir={digits_run / 'run'}"
    with started(tmp_path, "demo", flag, "--port=0") as process:
        note, compiling, line = read_until(process, "http://")
        assert note.startswith("step 20 of ")
        assert compiling.startswith("compiling the network;")
        address = re.fullmatch(r"open (http://127.0.0.1:\d+) in .*\n", line)[1]
        assert "It knows 10 classes: 0, 1," in requests.get(address, timeout=30).text
        if shutil.which("curl"):
            assert len(call_curl(address, tmp_path)["classes"]) == 10
        # Even a request that never ends does not delay the exit.
        with socket.create_connection(("127.0.0.1", int(address.split(":")[2]))) as c:
            c.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\n")
            process.send_signal(signum)
            out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert (out, err) == ("stopped\n", "")


@pytest.fixture
def shown(monkeypatch, call_command):
    """Returns a function that starts the command and returns what its page shows."""
    create = app.create

    def call(*arguments: str, cwd: pathlib.Path) -> str:
        monkeypatch.setattr(app, "create", lambda *given: create(*given[:2], "page"))
        monkeypatch.setattr(app, "server", lambda page: pages.append(page) or Ended())
        monkeypatch.setattr("cifar_jax.serving.answer.answer", lambda *_: None)
        monkeypatch.setattr("cifar_jax.demo.interrupts.end_on_signals", lambda: None)
        pages: list[Starlette] = []
        result = call_command("demo", "--port=0", *arguments, cwd=cwd)
        assert result.returncode == 0, result.stderr
        return asyncio.run(got(pages[0]))

    class Ended:
        def run(self, listeners):
            pass

    async def got(page):
        sent = []

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        scope |= {"root_path": "", "query_string": b""}
        await page(scope, None, send)
        return sent[1]["body"].decode()

    return call


def test_guests_see_no_folders_of_the_server(
    shown, finished_run, tmp_path, call_command
):
    exported = ("--out=out", f"--checkpoint_dir={finished_run}")
    assert call_command("export", *exported).returncode == 0
    places = {
        f"--checkpoint_dir={finished_run}": "step 12 of run, averaged parameters",
        f"--checkpoint_dir={tmp_path / 'out'}": "the network of out",
        f"--weights={tmp_path / 'out'}": "the network of out",
        f"--weights={tmp_path / 'out' / 'model.safetensors'}": (
            "the network of model.safetensors"
        ),
    }
    for flag, title in places.items():
        text = shown(flag, cwd=tmp_path)
        assert f"Network: {title}. It knows" in text
        assert str(tmp_path) not in text
        assert str(finished_run.parent) not in text
    for inside, folder in ((".", finished_run), ("..", finished_run / "checkpoints")):
        flag = f"--checkpoint_dir={inside}"
        assert "Network: step 12 of run, averaged" in shown(flag, cwd=folder)
    text = shown(cwd=tmp_path)
    assert "Network: the bundled network, airbench94. It" in text


def test_a_port_in_use(call_command, flag):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = call_command("demo", flag, f"--port={port}")
    message = f"cannot listen on --host=127.0.0.1 --port={port}: Address already in use"
    assert_one_line(result, 2, message, "--port=0 finds a free port")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b"])
def test_a_host_that_is_not_this_machine(call_command, flag, host):
    result = call_command("demo", flag, f"--host={host}", "--port=0")
    assert_one_line(result, 2, f"cannot listen on --host={host} --port=0: ")


def test_without_a_run_or_with_a_file(call_command):
    assert_one_line(call_command("demo", "--best"), 2, "no run in cifar10_train")
    assert_one_line(call_command("demo", "cat.png"), 2, "unexpected argument 'cat.png'")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra(call_command, flag, missing, monkeypatch):
    monkeypatch.delitem(sys.modules, "cifar_jax.serving.app")
    monkeypatch.delattr("cifar_jax.serving.app")
    for name in [n for n in sys.modules if n.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    result = call_command("demo", flag)
    way_out = ": pip install 'cifar-jax[demo]'"
    assert_one_line(result, 2, f"the page needs {missing}", way_out)


def test_the_documentation_knows_the_limits():
    assert f"{app.MOST_BYTES >> 20} MB" in TEXT
    for name in app.FORMATS:
        assert name in TEXT
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    assert (DOCS / picture).stat().st_size < 150_000
