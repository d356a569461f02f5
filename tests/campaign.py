"""Tests robustness against hundreds of kills, damaged files and odd flag values.

    python tests/campaign.py --kills=100 --damages=500 --archives=300 --values=20

- kills: Trainings are killed at random times by SIGKILL, SIGTERM or SIGINT and
  restarted until they finish. They must end in the same bits as an uninterrupted one.
- damages: Every file of a run is damaged (bits flipped, bytes changed, truncated,
  appended to, deleted). Each damage must be reported on one line, or lead to an older
  checkpoint, or change nothing.
- archives: The same for the archives of CIFAR-10 and CIFAR-100, and their unpacked
  folders. The data that are read must either be the official pixels or not be called
  official.
- values: Every flag of the commands is given odd values. Each value must be
  accepted, or refused on one line.

A table at the end shows how many attempts were made and how many survived; the exit
status is 1 if any failed. This is not part of the test suite: 100 kills alone take
about 10 minutes.
"""

import argparse
import collections
import contextlib
import functools
import io
import itertools
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from unittest import mock

TESTS = pathlib.Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "data"), str(TESTS.parent)]

import jax
import numpy as np
import small_cifar
from helpers import DIGITS, call_in_process, command, environment, state_of

from cifar_jax import (
    RunError,
    UserError,
    build_program,
    init_state,
    load_data,
    load_trained,
    predict_logits,
    read_run,
)
from cifar_jax.config import flags as config_flags
from cifar_jax.data.cifar import cifar10, cifar100, download
from cifar_jax.evaluation import comparison
from cifar_jax.writers import jsonl as summaries

STEPS = 40
SAVING = (
    *DIGITS,
    "--save_interval_secs=0",
    "--log_frequency=1",
    f"--max_steps={STEPS}",
)


class Table:
    """Counts the outcomes of attempts by kind."""

    def __init__(self) -> None:
        self.rows: dict[str, collections.Counter[str]] = {}
        self.failures: list[str] = []

    def add(self, kind: str, outcome: str, failure: str | None = None) -> None:
        counts = self.rows.setdefault(kind, collections.Counter())
        counts[outcome] += 1
        if failure is not None:
            counts["FAILED"] += 1
            self.failures.append(f"{kind}: {failure}")
            print(f"FAILED {kind}: {failure}", flush=True)
        if counts.total() % 50 == 0:
            print(f"{kind}: {counts.total()} tried", flush=True)

    def __str__(self) -> str:
        lines = ["| what | tried | survived | how |", "| --- | ---: | ---: | --- |"]
        for kind, counts in self.rows.items():
            failed = counts["FAILED"]
            tried = counts.total() - failed
            how = ", ".join(
                f"{outcome} {count}"
                for outcome, count in counts.most_common()
                if outcome != "FAILED"
            )
            lines.append(f"| {kind} | {tried} | {tried - failed} | {how} |")
        return "\n".join([*lines, *self.failures])


def kills(count: int, folder: pathlib.Path, table: Table) -> None:
    """Kills trainings at random times until `count` have been killed."""
    reference = folder / "reference"
    reference.mkdir()
    began = time.monotonic()
    train(reference)
    train(reference)  # Includes the time of a start with everything compiled.
    whole = time.monotonic() - began
    expected = state_of(reference / "run", STEPS)
    ended, number = 0, 0
    while ended < count:
        number += 1
        run = folder / f"killed{number}"
        run.mkdir()
        while True:
            signum = random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            outcome, problem = train_and_kill(run, random.uniform(0.05, whole), signum)
            if outcome == "finished":
                break
            ended += 1
            table.add(f"kill by {signum.name}", outcome, problem)
        same = all(
            np.array_equal(a, b)
            for a, b in zip(state_of(run / "run", STEPS), expected, strict=True)
        )
        table.add("run to its end", "same bits", None if same else f"{run} differs")


def train(folder: pathlib.Path) -> None:
    """Runs a training to its end."""
    subprocess.run(
        command("train", *SAVING),
        cwd=folder,
        env=environment(folder),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def train_and_kill(
    folder: pathlib.Path, seconds: float, signum: signal.Signals
) -> tuple[str, str | None]:
    """Kills a training; returns where it was and any problem with how it ended."""
    process = subprocess.Popen(
        command("train", *SAVING),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signum)
    out, err = process.communicate(timeout=120)
    if process.returncode == 0:
        return "finished", None
    where = "in its steps" if ": step " in out else "at its start"
    if signum == signal.SIGKILL:
        return where, None if process.returncode == -signum else err
    # Before the command's first line runs, Python itself ends the process.
    if process.returncode == -signum or "KeyboardInterrupt" in err:
        ours = re.search(r"cifar_jax.(?!__init__)\w+\.py", err)
        return "before its first line", err if ours else None
    right = process.returncode == 128 + signum and len(err.splitlines()) == 1
    return where, None if right else f"{process.returncode}: {err}"


def damage(content: bytes) -> tuple[str, bytes | None]:
    """Returns a description of a random damage and the new content, None if deleted."""
    place = int(random.random() ** 2 * len(content))
    kind = random.choice(["bit", "bit", "bytes", "cut", "empty", "more", "gone"])
    changed = bytearray(content)
    if kind == "bit" and content:
        changed[place] ^= 1 << random.randrange(8)
    elif kind == "bytes":
        changed[place : place + 8] = random.randbytes(8)
    elif kind == "cut":
        del changed[place:]
    elif kind == "empty":
        changed.clear()
    elif kind == "more":
        changed += random.randbytes(8)
    elif kind == "gone":
        return kind, None
    return f"{kind} at {place}", bytes(changed)


@contextlib.contextmanager
def damaged(path: pathlib.Path) -> Iterator[str]:
    """Damages a file within the context and yields a description of the damage."""
    content = path.read_bytes()
    words, changed = damage(content)
    path.unlink() if changed is None else path.write_bytes(changed)
    try:
        yield words
    finally:
        path.write_bytes(content)


def damages(count: int, folder: pathlib.Path, table: Table) -> None:
    """Damages one file of a run at a time, `count` times, and reads the run."""
    train(folder)
    run = folder / "run"
    call_in_process("eval", "--checkpoint_dir=run", cwd=folder)
    images = load_data("digits").test.images[:8]
    steps = [int(path.name) for path in (run / "checkpoints").iterdir()]
    expected = {
        step: predict_logits(load_trained(read_run(run), step), images)
        for step in steps
    }
    class_names = read_run(run).class_names

    def read() -> str:
        summaries.read_training(run / "train.jsonl")
        summaries.read_evaluations(run / "eval" / "test.jsonl")
        comparison.compared([comparison.read(read_run(run))])
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            network = load_trained(read_run(run))
        assert np.array_equal(predict_logits(network, images), expected[network.step])
        assert network.class_names == class_names
        older = network.step != max(steps)
        assert not older or "is damaged" in said.getvalue(), "without a reason"
        return "an older checkpoint" if older else "no change"

    files = sorted(p for p in run.rglob("*") if p.is_file() and p.name != ".lock")
    # Alternate between the newest checkpoint, older ones and all other files.
    newest = [path for path in files if str(max(steps)) in path.parts]
    others = [path for path in files if "checkpoints" not in path.parts]
    groups = (newest, sorted({*files} - {*newest, *others}), others)
    for i in range(count):
        path = groups[i % 3][i // 3 % len(groups[i % 3])]
        with damaged(path) as words:
            attempt(table, f"damage of {kind_of(path)}", f"{path}: {words}", read)


def kind_of(path: pathlib.Path) -> str:
    if "checkpoints" in path.parts:
        return "SHA256SUMS" if path.name == "SHA256SUMS" else "a checkpoint"
    return re.sub(r"events\.out.*", "TensorBoard's files", path.name)


def attempt(table: Table, kind: str, what: str, function: Callable[[], str]) -> None:
    """Calls a function and counts its result or its error as the outcome."""
    try:
        outcome, failure = function(), None
    except (UserError, RunError) as error:
        outcome, failure = "refused on one line", None
        if "\n" in str(error):
            failure = f"{what}: {error!r}"
    except FileNotFoundError as error:
        # Readers of summaries expect the files to exist.
        outcome, failure = "no summaries", None
        if not str(error.filename).endswith(".jsonl"):
            failure = f"{what}: {error!r}"
    except Exception as error:
        outcome, failure = "an error of ours", f"{what}: {error!r}"
    table.add(kind, outcome, failure)


def damaged_archives(count: int, folder: pathlib.Path, table: Table) -> None:
    """Damages a small archive or an unpacked folder `count` times and loads it."""
    cifar10.CIFAR10 = small_cifar.official(small_cifar.CIFAR10)
    cifar100.CIFAR100 = small_cifar.official(small_cifar.CIFAR100)
    places = []
    for published, kind, packed in itertools.product(
        (cifar10.CIFAR10, cifar100.CIFAR100), small_cifar.KINDS, (True, False)
    ):
        place = folder / f"{published.name}-{kind}-{packed}"
        place.mkdir()
        if packed:
            small_cifar.write_archive(place, kind, published=published)
        else:
            contents = small_cifar.files(kind, published=published)
            small_cifar.write_folder(place, contents)
        words = f"damage of {'an archive' if packed else 'a folder'}, {kind}"
        places.append((words, published.name, place))
    intact = {name: load_data(name, place).fingerprint for _, name, place in places}

    def load(name: str, place: pathlib.Path) -> str:
        found = load_data(name, place)
        same = found.fingerprint == intact[name]
        assert found.official == (found.notice is None)
        # A damaged coarse label is none of the fingerprint's, but not official either.
        assert same or not found.official
        return "no change" if same else "read, and said not to be official"

    # A missing archive would otherwise be requested from the server.
    download.why_unreachable = lambda url: "not asked"
    for i in range(count):
        words, name, place = places[i % len(places)]
        path = random.choice(sorted(place.iterdir()))
        with damaged(path) as how:
            loading = functools.partial(load, name, place)
            attempt(table, words, f"{path}: {how}", loading)


ODD = [
    *("", " ", "-", "--", "0", "1", "-1", "00", "1e3", "1e309", "-1e309", "nan", "inf"),
    *("0.5", "0.5,0.5", "0.1,0.9", ",", "0x10", "2147483647", "2147483648"),
    *(
        "9223372036854775808",
        "-9223372036854775809",
        "1" * 400,
        "true",
        "False",
        "None",
    ),
    *("\n", "\t", "\0", "é", "\udcff", "~", "~nobody-of-this-name", "/", "/dev/null"),
    *("/dev/full", "/proc/self", "/etc/passwd", ".", "..", "x" * 300, "a/" * 3000),
    *("tutorial", "auto", "jit", "cosine", "drops", "host:99999", "host:1", "%s", "{}"),
]


def values(count: int, folder: pathlib.Path, table: Table) -> None:
    """Gives each flag of each command `count` odd values, some with a second flag."""
    for name in ("train", "eval", "predict", "compare", "export"):
        help_text = call_in_process(name, "--help", cwd=folder).stdout
        names = re.findall(r"^  --(?:\[no\])?(\w+)$", help_text, re.MULTILINE)
        for flag in names:
            for value in random.sample(ODD, min(count, len(ODD))):
                words = [f"--{flag}={value}"]
                if random.random() < 0.3:
                    words.append(f"--{random.choice(names)}={random.choice(ODD)}")
                attempt(
                    table,
                    f"flags of {name}",
                    f"{words!r}",
                    lambda name=name, words=words: give(name, words, folder),
                )


class AcceptedError(Exception):
    """Raised when a command has accepted its flags and would begin its work."""


def give(name: str, words: list[str], folder: pathlib.Path) -> str:
    """Returns whether a command accepts its flags; for training, JAX must do so too."""

    def begin(*_: object, **__: object) -> None:
        if name == "train":
            config = config_flags.read()
            program = build_program(config, 10)
            images = np.zeros((1, 32, 32, 3), np.uint8)
            jax.eval_shape(lambda: init_state(program, jax.random.key(0), images))
            float(program.schedule(0))
        raise AcceptedError

    before = {path.name for path in folder.iterdir()}
    with (
        mock.patch("cifar_jax.data.load", begin),
        mock.patch("cifar_jax.eval._wait_for_run", begin),
        # This rightly creates the folder that it is given.
        mock.patch("cifar_jax.devices.compilation._use"),
    ):
        try:
            arguments = {"predict": ["x.png"], "compare": ["x"]}.get(name, [])
            done = call_in_process(name, *words, *arguments, cwd=folder)
        except AcceptedError:
            done = None
    new = {path.name for path in folder.iterdir()} - before
    assert not new, f"has left {new}"
    if done is None:
        return "accepted"
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode == 0:
        return "accepted"
    assert done.returncode == 2, f"{done.returncode}: {done.stderr}"
    assert len(lines) == 1, done.stderr
    return "refused on one line"


def main() -> int:
    """Runs the requested parts and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {
        "kills": kills,
        "damages": damages,
        "archives": damaged_archives,
        "values": values,
    }
    for name in parts:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    table = Table()
    with tempfile.TemporaryDirectory() as scratch:
        for name, function in parts.items():
            count = getattr(options, name)
            if count:
                folder = pathlib.Path(scratch) / name
                folder.mkdir()
                print(f"{name}: {count}", flush=True)
                function(count, folder, table)
    print(f"\n{table}")
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
