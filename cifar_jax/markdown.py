"""Markdown tables, which people can also read as they are."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table; the first column is left-aligned, the others right."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    columns = zip(header, *escaped, strict=True)
    # A rule needs a dash and a colon.
    widths = [max(2, *map(len, column)) for column in columns]
    rule = [
        f"{'-' * (width - 1)}{'-' if i == 0 else ':'}" for i, width in enumerate(widths)
    ]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    return "\n".join(map(line, [header, rule, *escaped]))
