"""Recognizes pictures by the endings of file names, or else by the files' bytes."""

import os
import warnings
from pathlib import Path

from PIL import Image

from cifar_jax import extras

try:
    import pillow_heif
except ImportError:
    HAS_HEIF = False
else:
    HAS_HEIF = True
    pillow_heif.register_heif_opener()

_HEIF = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
# The kinds of HEIF that need pillow-heif, by bytes 4 to 12 of a file.
_HEIF_BRANDS = frozenset(
    b"ftyp" + brand for brand in b"heic heix heim heis hevc hevx mif1 msf1".split()
)
# Camera raw files, of which Pillow would read only the small preview.
_RAW = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf"),
        *(".pef", ".raf", ".raw", ".rw2", ".sr2", ".srw", ".x3f"),
    }
)
_OTHER_PICTURES = _RAW | {".jxl", ".svg", ".svgz"}
_UNREADABLE = _HEIF | _OTHER_PICTURES
# Pillow can write some of these, but not read them.
_NO_PICTURES = frozenset(
    {
        *(".txt", ".md", ".rst", ".log", ".csv", ".tsv", ".json", ".jsonl", ".xml"),
        *(".html", ".htm", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".db", ".lnk"),
        *(".url", ".py", ".pyc", ".ipynb", ".sh", ".bat", ".m", ".r", ".pdf", ".doc"),
        *(".docx", ".xls", ".xlsx", ".odt", ".zip", ".tar", ".gz", ".tgz", ".bz2"),
        *(".xz", ".7z", ".rar", ".npy", ".npz", ".mat", ".pkl", ".h5", ".hdf", ".hdf5"),
        *(".mp3", ".wav", ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg"),
        *(".mpeg", ".aae", ".xmp", ".thm", ".md5", ".sha256"),
    }
)
# What a file with an unknown ending may be. Formats with shorter signatures, or none,
# would mistake other files for pictures; those with short ones need a valid header.
_SIGNED = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PSD", "HEIF")
_SHORTLY_SIGNED = ("BMP", "PPM", "ICO")
# What macOS and storage servers put next to people's folders.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "lost+found"})


def ending(name: str) -> str:
    """Returns the ending of a file name in lower case, with its dot; may be empty."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_own_folder(name: str) -> bool:
    """Returns whether a folder is the user's own, not a hidden or system folder."""
    return name[:1] != "." and name not in _SYSTEM_FOLDERS


def has_picture_name(name: str) -> bool:
    """Returns whether a file name has a picture ending, readable here or not."""
    return name[:1] != "." and _is_picture_ending(ending(name))


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file should be read as a picture.

    Its name decides if it has a known ending or none, as photographs often have none.
    Otherwise the beginning of the file decides. Hidden files are not pictures.
    """
    name = os.path.basename(path)  # noqa: PTH119
    end = ending(name)
    if name[:1] == "." or end in _NO_PICTURES:
        return False
    return not end or _is_picture_ending(end) or _begins_like_picture(path)


def find_obstacle(name: str, beginning: bytes = b"") -> str | None:
    """Returns why this kind of picture cannot be read here, or None if it may be.

    Args:
        name: file name; only its ending counts.
        beginning: the first 12 or more bytes of the file, if known.
    """
    is_heif = ending(name) in _HEIF or beginning[4:12] in _HEIF_BRANDS
    if is_heif and not HAS_HEIF:
        return f"needs pillow-heif ({extras.way_out('heif')})"
    if ending(name) in _OTHER_PICTURES:
        return "cannot be read by Pillow (convert it to PNG or JPEG)"
    if ending(name) == ".avif" and ".avif" not in Image.registered_extensions():
        return "needs a newer Pillow (pip install -U pillow)"
    return None


def _is_picture_ending(end: str) -> bool:
    known = end in _UNREADABLE or end in Image.registered_extensions()
    return known and end not in _NO_PICTURES


def _begins_like_picture(path: str | os.PathLike[str]) -> bool:
    path = Path(path)
    if not path.is_file():  # reading a FIFO would block forever
        return False
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
    except OSError:
        return True  # reading it will report the error
    Image.init()
    accepts = [Image.OPEN[name][1] for name in _SIGNED if name in Image.OPEN]
    if beginning[4:12] in _HEIF_BRANDS or any(f and f(beginning) for f in accepts):
        return True
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(path, formats=_SHORTLY_SIGNED):
                return True
        except Exception:  # decoders can raise almost anything on other files
            return False
