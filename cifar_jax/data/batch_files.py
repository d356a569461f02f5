"""Decoders of the three kinds of batch file: binary records, pickle, MATLAB.

Each takes the bytes of one file, trusts none of them, and returns pixels, uint8
[n, 3072] as three planes an image, and labels [n]. How many images there are, and
what the labels are, the caller checks. On damaged bytes any exception may come.
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
MAX_BYTES = 40_000_000  # the official files have 31 MB

Batch = tuple[UInt8[np.ndarray, "n 3072"], Integer[np.ndarray, " n"]]


def decode_binary(contents: bytes) -> Batch:
    """Decodes records of one byte of label and 3,072 of pixels."""
    records = np.frombuffer(contents, np.uint8)
    if records.size % (1 + PIXELS):
        raise ValueError(
            f"{records.size:,} bytes are no whole number of records of {1 + PIXELS}"
        )
    records = records.reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


class _Pickled:
    """A NumPy object as it was pickled: its arguments and state, not acted upon."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _BatchUnpickler(pickle.Unpickler):
    """Admits the names that a batch refers to, each replaced by something harmless."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (
                "numpy.core.multiarray" | "numpy._core.multiarray",
                "_reconstruct",
            ) | ("numpy", "ndarray" | "dtype"):
                return _Pickled
            case "_codecs", "encode":  # how Python 3 writes bytes for Python 2
                return lambda text, _: str.encode(text, "latin1")
        raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}")


# What protocol 2, Python 2's last, writes for such a dict.
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
    """Decodes a pickled dict with b"data", an array, and b"labels", a list."""
    # Looked through before it is loaded: other opcodes, and memo entries beyond what
    # the pickle can fill, make the unpickler allocate whatever size they claim.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(contents)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"its pickle has the opcode {opcode.name}")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > count:
            raise ValueError(f"its pickle has the memo entry {argument}")
    batch = _BatchUnpickler(io.BytesIO(contents), encoding="bytes").load()
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError("its pickle is no dict with data and labels")
    _, shape, dtype, fortran_order, raw = batch[b"data"].state
    if dtype.arguments[0] not in (b"u1", "u1") or fortran_order:
        raise ValueError("its array is not uint8 in C order")
    labels = batch[b"labels"]
    if not all(type(label) is int for label in labels):
        raise ValueError("its labels are not integers")
    return np.frombuffer(raw, np.uint8).reshape(shape), np.array(labels, np.int64)


def decode_matlab(contents: bytes) -> Batch:
    """Decodes a MATLAB 5 file with `data`, n x 3072, and `labels`, n x 1."""
    import scipy.io  # here because most runs read another format

    file = io.BytesIO(_inflate_matlab(contents))
    found = {name: (kind, *shape) for name, shape, kind in scipy.io.whosmat(file)}
    for name, columns in (("data", PIXELS), ("labels", 1)):
        if found.get(name, ())[::2] != ("uint8", columns):
            raise ValueError(f"its variable {name} is {found.get(name)}, not uint8")
    variables = scipy.io.loadmat(file, variable_names=("data", "labels"))
    return variables["data"], variables["labels"][:, 0]


def _inflate_matlab(contents: bytes) -> bytes:
    """The same MATLAB file with its variables uncompressed.

    Done here because SciPy inflates a variable to whatever size it claims. The layout
    is MathWorks' "MAT-File Format", level 5: a header of 128 bytes, then elements of
    type, size and data; type 15 is a zlib stream that holds another element.
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
                raise ValueError("a variable is cut short or implausibly large")
        parts.append(element)
        position += 8 + size
        room = max(room - len(element), 1)  # to zlib, 0 is no bound at all
    return b"".join(parts)
