"""Runs airbench94_muon.py of https://github.com/KellerJordan/cifar10-airbench.

    python airbench_original.py FILE TRAIN_RECORDS TEST_RECORDS RUNS

Only the number of runs is changed in the file. It needs an NVIDIA GPU.
"""

import pathlib
import sys

import numpy as np
import torch


def prepare(records: str, name: str) -> None:
    """Converts official binary records to the files that the original reads."""
    rows = np.fromfile(records, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    contents = {
        "images": torch.from_numpy(images.copy()),
        "labels": torch.from_numpy(rows[:, 0].astype(np.int64)),
        "classes": [str(label) for label in range(10)],
    }
    folder = pathlib.Path("cifar10")
    folder.mkdir(exist_ok=True)
    torch.save(contents, folder / f"{name}.pt")


def main() -> None:
    """Runs the original in the current folder."""
    file, train, test, runs = sys.argv[1:]
    prepare(train, "train")
    prepare(test, "test")
    code = pathlib.Path(file).read_text(encoding="utf-8")
    if "range(200)" not in code:
        sys.exit(f"{file} does not have the 200 runs of airbench94_muon.py")
    own = pathlib.Path("airbench94_muon.py").absolute()
    own.write_text(code.replace("range(200)", f"range({int(runs)})"), encoding="utf-8")
    # It reads its own source code from the path in sys.argv.
    sys.argv = [str(own)]
    exec(
        compile(own.read_text(encoding="utf-8"), own, "exec"), {"__name__": "__main__"}
    )


if __name__ == "__main__":
    main()
