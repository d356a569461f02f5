"""Downloads the official archive."""

import hashlib
import sys
from pathlib import Path

from cifar_jax.data import archives
from cifar_jax.errors import RunError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
BYTES = 170_052_171
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
# For connecting, and for waiting for the next bytes.
_TIMEOUTS_SECS = (8.0, 60.0)
_BLOCK_BYTES = 1 << 20


def fetch_archive(data_dir: Path) -> Path:
    """Downloads the binary archive into data_dir, showing progress on stderr.

    The file gets its final name only once it is complete and its checksum matches. A
    killed download leaves a *.partial file, which the next download overwrites.

    Raises:
        RunError: the download fails or returns anything but the official archive.
        OSError: the file cannot be written.
    """
    # Imported here because most runs find the data on disk.
    import requests
    from tqdm import tqdm

    path = data_dir / archives.BINARY.archive
    partial = path.with_name(path.name + ".partial")
    by_hand = f"try again, or put {path.name} into {data_dir} by hand"
    partial.unlink(missing_ok=True)  # it may be a link or a FIFO
    digest = hashlib.sha256()
    size = 0
    try:
        with (
            requests.get(
                URL,
                stream=True,
                timeout=_TIMEOUTS_SECS,
                headers={"Accept-Encoding": "identity"},  # keeps the archive packed
            ) as response,
            partial.open("wb") as file,
            tqdm(
                desc="Downloading CIFAR-10",
                total=BYTES,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
            ) as progress,
        ):
            response.raise_for_status()
            for block in response.iter_content(_BLOCK_BYTES):
                file.write(block)
                digest.update(block)
                progress.update(len(block))
                if (size := file.tell()) > BYTES:
                    break  # an endless response would fill the disk
    except requests.RequestException as error:
        raise RunError(f"the download of {URL} failed ({error}); {by_hand}") from error
    if digest.hexdigest() != SHA256:
        raise RunError(
            f"the response from {URL} is not the official archive of {BYTES:,} bytes "
            f"(it has {size:,} bytes, SHA-256 {digest.hexdigest()}); {by_hand}"
        )
    partial.replace(path)
    return path
