"""Tests robustness against hundreds of kills, damaged files and odd flag values.

    python tests/campaign.py --kills=100 --damages=800 --swaps=60 --weights=100

- kills: Trainings are killed at random times by SIGKILL, SIGTERM or SIGINT and
  restarted until they finish. They must end in the same bits as an uninterrupted one.
- damages: Every file of a run is damaged (bits flipped, bytes changed, truncated,
  appended to, deleted). Each damage must be reported on one line, or lead to an older
  checkpoint, or change nothing.
- swaps: Checkpoints and files of a run are exchanged with those of others, copied,
  renamed, linked or replaced by what is no file. Each must be reported on one line, or
  lead to another checkpoint of the run, or change nothing.
- weights: The same as damages for exports and files of Keras, and files that are too
  large, not finite or no files.
- values: Every flag of the commands is given odd values. Each value must be
  accepted, or refused on one line.

A table at the end shows how many attempts were made and how many survived; the exit
status is 1 if any failed. This is not part of the test suite: 100 kills alone take
about 10 minutes.
"""

import argparse
import pathlib
import random
import sys
import tempfile

TESTS = pathlib.Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from campaign_parts.attempts import Table
from campaign_parts.damages import damages
from campaign_parts.kills import kills
from campaign_parts.swaps import swaps
from campaign_parts.values import values
from campaign_parts.weights import weights

PARTS = {
    "kills": kills,
    "damages": damages,
    "swaps": swaps,
    "weights": weights,
    "values": values,
}


def main() -> int:
    """Runs the requested parts and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in PARTS:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    table = Table()
    with tempfile.TemporaryDirectory() as scratch:
        for name, function in PARTS.items():
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
