"""A result as a table on the terminal."""

from pathlib import Path

from rich.table import Table

from dualpixel.evaluate.result import Result
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import console


def show(result: Result, path: Path | None) -> None:
    """Print a result as a table, the protocol beside it."""
    table = Table(
        title=f"{result.recipe} on {result.dataset} {result.split}, protocol {result.protocol}", title_justify="left"
    )
    names = [name for name in result.means[OVERALL] if not name.startswith("input_") and name != "loss"]
    for heading in ["", "images", *[name.upper() for name in names]]:
        table.add_column(heading, justify="right" if heading else "left")
    groups = {group: values for group, values in result.means.items() if group == OVERALL or len(result.means) > 2}
    for group, values in groups.items():  # a single group would repeat the line above it
        count = sum(row["group"] == group or group == OVERALL for row in result.rows)
        for said, prefix in (("input", "input_"), ("output", "")):
            cells = [values.get(prefix + name) for name in names]
            if any(cell is not None for cell in cells):
                table.add_row(
                    f"{group} {said}", str(count), *("" if cell is None else f"{float(cell):.4f}" for cell in cells)
                )
    console().print(table)
    macs = (
        f", {result.macs / 1e9:.3f} G multiply-accumulates at {result.macs_size[0]}x{result.macs_size[1]}"
        if result.macs
        else ""
    )
    written = f"written to {path}" if path else "a limited run: no result file is written"
    print(f"{result.parameters:,} parameters{macs}; data {result.fingerprint}; {written}")
