"""A newcomer's first minutes at a terminal, typed into a shell as README says."""

import os
import re
import shlex
import subprocess
import sys
import time

import pytest
from helpers import command, environment
from PIL import Image


class Terminal:
    """A shell on a pseudo-terminal of 100 columns.

    Attributes:
        text: everything that it has shown.
    """

    def __init__(self, tmp_path):
        self._shell = subprocess.Popen(
            [sys.executable, "-c", "import pty; pty.spawn('sh')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(tmp_path) | {"PS1": "$ ", "TERM": "xterm"},
        )
        os.set_blocking(self._shell.stdout.fileno(), False)
        self.text, self._seen = "", 0
        self.type("stty cols 100 rows 30\n")

    def type(self, keys: str) -> None:
        self._shell.stdin.write(keys.encode())
        self._shell.stdin.flush()

    def until(self, pattern: str) -> str:
        """Returns what is shown from the last such call on, as far as this text."""
        end = time.monotonic() + 300
        while (found := re.search(pattern, self.text[self._seen :])) is None:
            assert time.monotonic() < end, f"no {pattern!r} in {self.text}"
            self.text += (self._shell.stdout.read() or b"").decode(errors="replace")
            time.sleep(0.05)
        shown = self.text[self._seen : self._seen + found.end()]
        self._seen += found.end()
        return shown

    def run(self, name: str, *words: str) -> str:
        """Runs a command of the package to its end; returns what it has shown."""
        self.type(shlex.join(command(name, *words)) + "; echo status $?\n")
        return self.until(r"\nstatus \d+")

    def close(self) -> None:
        self._shell.communicate(b"exit\n", timeout=60)


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_the_first_minutes(terminal, tmp_path):
    data = "--dataset=digits"
    shown = terminal.run("train", data, "--max_steps=20")
    assert shown.endswith("status 0")
    # The tutorial's line, by itself; then a bar, and lines above it.
    line = r"[\r\n]\d{4}-\d\d-\d\d [\d:.]+: step %d, loss = 4\.[56]\d \([^\r\n]*batch\)"
    first, second = re.search(line % 0, shown), re.search(line % 10, shown)
    assert "loss = 4.6" in first[0]
    assert first.end() < shown.index("/20 [") < second.start()
    assert second.end() < shown.index("20/20 [") < shown.index("20 steps in 0:")
    assert "100%" in shown
    assert re.search(r"(step/s|s/step), loss = ", shown)  # the other on slow machines
    for step in (0, 10):
        assert len(re.findall(rf"[\r\n][^\r\n]*: step {step}, loss = ", shown)) == 1

    shown = terminal.run("eval")
    assert re.search(r"precision @ 1 = 0\.\d{3}", shown)
    assert shown.endswith("status 0")

    Image.new("RGB", (48, 40), (90, 160, 230)).save(tmp_path / "sky.png")
    shown = terminal.run("predict", "sky.png")
    assert re.search(r"sky\.png\r\n +\d +\d+\.\d\d%", shown)
    assert shown.endswith("status 0")

    # Ctrl-C keeps what there is, and the same line goes on from there.
    terminal.type(shlex.join(command("train", data, "--max_steps=100000")) + "\n")
    terminal.until(r"step 30, loss")
    terminal.type("\x03")
    stopped = terminal.until(r"stopped by SIGINT [^\n]*\n")
    step = int(re.search(r"stopped by SIGINT .*step (\d+)", stopped)[1])
    shown = terminal.run("train", data, f"--max_steps={step + 1}")
    assert f"from step {step}" in shown
    assert shown.endswith("status 0")
    assert "Traceback" not in terminal.text
