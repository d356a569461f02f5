"""Strategies for damaging files, for hypothesis."""

import gzip

from hypothesis import strategies as st

OTHERS = (b"", b"no such file", gzip.compress(b""), gzip.compress(b"no archive"))
KINDS = ("bit", "bytes", "zeros", "cut", "gone", "twice", "other")


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Draws damaged contents: bits or bytes are changed, zeroed, cut or repeated.

    Or the contents are those of another file. Half of the positions are anywhere, half
    are among the first bytes, which tell how to read the others.
    """
    first = st.integers(0, min(len(content), 2000) - 1)
    place = draw(first | st.integers(0, len(content) - 1))
    length = draw(st.sampled_from([1, 8, 100, 5000]))
    found = content[place : place + length]
    kind = draw(st.sampled_from(KINDS))
    if kind == "other":
        return draw(st.sampled_from(OTHERS))
    if kind == "bit":
        changed = bytes([found[0] ^ 1 << draw(st.integers(0, 7))]) + found[1:]
    elif kind == "bytes":
        changed = draw(st.binary(min_size=1, max_size=8))
        changed += found[len(changed) :]
    elif kind == "zeros":
        changed = bytes(len(found))
    elif kind == "cut":
        return content[:place]
    elif kind == "gone":
        changed = b""
    else:
        changed = found + found
    return content[:place] + changed + content[place + length :]
