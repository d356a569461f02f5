"""What the parts of the campaign share: attempts, their outcomes, and damaged files."""

import collections
import contextlib
import pathlib
import random
from collections.abc import Callable, Iterator

from cifar_jax import RunError, UserError


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
