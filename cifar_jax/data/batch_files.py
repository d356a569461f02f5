"""Decoders for the three kinds of batch file: binary records, pickle and MATLAB.

Each decoder takes the untrusted bytes of one file and returns the pixels, uint8
[n, 3072] with three planes per image, and the labels, [n]. The caller checks the number
of images and the values of the labels. Damaged bytes may cause any exception.
"""

import io
import pickle
import pickletools
import struct
import zlib
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

PIXELS = 3 * 32 * 32
MAX_BYTES = 40_000_000  # the official files are 31 MB each

Batch = tuple[UInt8[np.ndarray, "n 3072"], Integer[np.ndarray, " n"]]


def decode_binary(contents: bytes) -> Batch:
    """Decodes records of one label byte and 3,072 pixel bytes each."""
    records = np.frombuffer(contents, np.uint8)
    if records.size % (1 + PIXELS):
        raise ValueError(
            f"its size, {records.size:,} bytes, is not a multiple of {1 + PIXELS}"
        )
    records = records.reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


class _Pickled:
    """Holds the arguments and state of a pickled NumPy object without using them."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _BatchUnpickler(pickle.Unpickler):
    """Admits only the names that a batch needs and makes each of them harmless."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (
                "numpy.core.multiarray" | "numpy._core.multiarray",
                "_reconstruct",
            ) | ("numpy", "ndarray" | "dtype"):
                return _Pickled
            case "_codecs", "encode":  # how Python 3 pickles bytes for Python 2
                return lambda text, _: str.encode(text, "latin1")
        raise pickle.UnpicklingError(f"its pickle refers to {module}.{name}")


# The opcodes that protocol 2, the last of Python 2, uses for the dict of a batch.
_OPCODES = frozenset(
    [
        *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2"),
        *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "REDUCE", "BUILD"),
    ]
)


def decode_python(contents: bytes) -> Batch:
    """Decodes a pickled dict with an array, b"data", and a list, b"labels"."""
    # The pickle is scanned before it is loaded: other opcodes, and memo entries beyond
    # what the pickle can fill, make the unpickler allocate whatever size they claim.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(contents)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"its pickle contains the opcode {opcode.name}")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > count:
            raise ValueError(f"its pickle contains the memo entry {argument}")
    batch = _BatchUnpickler(io.BytesIO(contents), encoding="bytes").load()
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError("its pickle is not a dict with data and labels")
    _, shape, dtype, fortran_order, raw = batch[b"data"].state
    if dtype.arguments[0] not in (b"u1", "u1") or fortran_order:
        raise ValueError("its array is not uint8 in C order")
    labels = batch[b"labels"]
    if not all(type(label) is int for label in labels):
        raise ValueError("its labels are not integers")
    return np.frombuffer(raw, np.uint8).reshape(shape), np.array(labels, np.int64)


def decode_matlab(contents: bytes) -> Batch:
    """Decodes a MATLAB 5 file with `data` (n x 3072) and `labels` (n x 1)."""
    import scipy.io  # imported here because most runs read another format

    file = io.BytesIO(_inflate_matlab(contents))
    found = {name: (kind, *shape) for name, shape, kind in scipy.io.whosmat(file)}
    for name, columns in (("data", PIXELS), ("labels", 1)):
        if found.get(name, ())[::2] != ("uint8", columns):
            raise ValueError(f"its variable {name} is {found.get(name)}, not uint8")
    variables = scipy.io.loadmat(file, variable_names=("data", "labels"))
    return variables["data"], variables["labels"][:, 0]


def _inflate_matlab(contents: bytes) -> bytes:
    """Returns the same MATLAB file with its variables uncompressed.

    SciPy itself would inflate a variable to whatever size it claims. The layout is
    described in MathWorks' "MAT-File Format", level 5: a 128-byte header, then elements
    of type, size and data; type 15 is a zlib stream that holds another element.
    """
    if contents[124:128] != b"\x00\x01IM":
        raise ValueError("it is not a little-endian MATLAB 5 file")
    parts, position, room = [contents[:128]], 128, MAX_BYTES
    while position < len(contents):
        kind, size = struct.unpack_from("<II", contents, position)
        element = contents[position : position + 8 + size]
        if kind == 15:
            stream = zlib.decompressobj()
            element = stream.decompress(element[8:], room)
            if not stream.eof:
                raise ValueError("a variable is truncated or implausibly large")
        parts.append(element)
        position += 8 + size
        room = max(room - len(element), 1)  # zlib takes 0 to mean no limit
    return b"".join(parts)
