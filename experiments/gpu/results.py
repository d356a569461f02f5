"""What has been measured so far, in one small file, and what is still open."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from cifar_jax.errors import UserError
from experiments.gpu.figures import Figure
from experiments.harness import output, runs

Record = dict[str, Any]


class Results:
    """The records of all figures.

    A record counts while its figure is defined as it was when it was measured; others
    stay in the file.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: pathlib.Path):
        """Reads the file in a folder, if there is one.

        Raises:
            UserError: the file cannot be read, or is not one of these results.
        """
        self.path = folder / "gpu.json"
        self._records: list[Record] = []
        try:
            if self.path.exists():
                found = json.loads(self.path.read_text(encoding="utf-8"))
                self._records = found["records"]
            for record in self._records:
                record["definition"], record["seed"], record["seconds"]
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}") from error
        except (ValueError, LookupError, TypeError):
            raise UserError(
                f"{self.path} is not a result of this experiment; choose another --json"
            ) from None

    def of(self, figure: Figure) -> list[Record]:
        """Returns the records that count for a figure, by seed."""
        found = {
            record["seed"]: record
            for record in self._records
            if record["definition"] == figure.definition
        }
        return [found[seed] for seed in sorted(found) if seed < figure.seeds]

    def missing(self, figure: Figure) -> list[int]:
        """Returns the seeds of a figure that have not been measured."""
        made = {record["seed"] for record in self.of(figure)}
        return [seed for seed in range(figure.seeds) if seed not in made]

    def seconds(self, figure: Figure) -> float:
        """Returns how long a run takes: the longest so far, or else the estimate."""
        taken = [record["seconds"] for record in self.of(figure)]
        return max(taken, default=60 * figure.minutes)

    def add(self, figure: Figure, seed: int, record: Record) -> None:
        """Adds a record and writes the file."""
        named = {"figure": figure.name, "definition": figure.definition, "seed": seed}
        self._records.append(named | record)
        output.write({"records": self._records}, self.path)

    def table(self, figures: Sequence[Figure]) -> str:
        """Returns a row for each figure."""
        rows = []
        for figure in figures:
            records, left = self.of(figure), len(self.missing(figure))
            found = [r["precision"] for r in records if "precision" in r]
            rows.append(
                [
                    figure.name,
                    f"`{figure.command}`",
                    f"{len(records)} of {figure.seeds}",
                    runs.mean(found, 4) if found else "-",
                    figure.reported,
                    f"{left * self.seconds(figure) / 60:.0f}" if left else "done",
                ]
            )
        heads = ["figure", "command", "runs", "precision", "reported", "minutes left"]
        return output.table(heads, rows)
