"""Scores in words: a result as a table on the terminal, and the best validation as a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from dualpixel.evaluate.columns import IMAGE_METRICS, MAP_METRICS
from dualpixel.evaluate.result import Result
from dualpixel.evaluate.sanity import result_faults
from dualpixel.metrics.per_image import OVERALL
from dualpixel.terminal import console

ROWS = {
    "input": "input_",
    "output": "",
    "views = input": "input_views_",
    "views": "views_",
    "left": "left_",
    "right": "right_",
}
"""What stands before the columns of each row of the table of images."""
MAP_ROWS = {"blur": "", "coarse": "coarse_"}
HEADINGS = {
    "rmse_relative": "RMSE %",
    "ai1": "AI(1)",
    "ai2": "AI(2)",
    "one_minus_abs_rho": "1-|rho|",
    "one_minus_abs_rho_average_ranks": "1-|rho| average ranks",
    "geometric_mean": "geometric mean",
}


def show(result: Result, path: Path | None) -> None:
    """Print a result, the protocol beside it: a table of images, and one of maps, where there are such scores."""
    title = f"{result.recipe} on {result.dataset} {result.split}, protocol {result.protocol}"
    for what, rows, names in (
        ("", ROWS, IMAGE_METRICS),
        (": predicted blur", MAP_ROWS, [name for metrics in MAP_METRICS.values() for name in metrics]),
    ):
        metrics = [name for name in names if any(prefix + name in result.means[OVERALL] for prefix in rows.values())]
        table = _table(title + what, result, rows, metrics)
        if metrics and (table.row_count or not what):
            console().print(table)
        if what and metrics:
            _say_unknown(result, [prefix + name for prefix in rows.values() for name in metrics])
    macs = (
        f", {result.macs / 1e9:.3f} G multiply-accumulates at {result.macs_size[0]}x{result.macs_size[1]}"
        if result.macs
        else ""
    )
    if result.views_from:
        print(f"left and right view predicted by {result.views_from['recipe']}, {result.views_from['source']}")
    written = f"written to {path}" if path else "a limited run: no result file is written"
    seconds = f", {result.seconds:.3g} s an image on {result.environment.get('device_name')}" if result.seconds else ""
    print(f"{result.parameters:,} parameters{macs}{seconds}; data {result.fingerprint}; {written}")
    found = result_faults(result)
    if found:
        print(f"warning: this result contradicts itself: {'; '.join(found)}; leaderboards leave it out")


def _say_unknown(result: Result, columns: Sequence[str]) -> None:
    """Say why a mean of the maps is empty: one image without a score is enough."""
    without = [row["key"] for row in result.rows if all(row.get(name) is None for name in columns)]
    if without:
        others = f" and {len(without) - 1} more" if len(without) > 1 else ""
        print(
            f"predicted blur has no mean: {len(without)} of {len(result.rows)} images have no score ({without[0]}{others}): the data know "
            "no pixel there, or the prediction is not a number"
        )


def _table(title: str, result: Result, rows: Mapping[str, str], metrics: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ["", "images", *[HEADINGS.get(name, name.upper()) for name in metrics]]:
        table.add_column(heading, justify="right" if heading else "left")
    groups = {group: values for group, values in result.means.items() if group == OVERALL or len(result.means) > 2}
    for group, values in groups.items():  # a single group would repeat the line above it
        count = sum(row["group"] == group or group == OVERALL for row in result.rows)
        for said, prefix in rows.items():
            cells = [values.get(prefix + name) for name in metrics]
            if any(cell is not None for cell in cells):
                table.add_row(
                    f"{group} {said}", str(count), *("" if cell is None else f"{float(cell):.4f}" for cell in cells)
                )
    return table


def best_validation(history: Mapping[int, Mapping[str, float | None]]) -> tuple[int, str] | None:
    """Find the validation with the best PSNR, of the sharp image or, where none is scored, of the views.

    Args:
        history: step -> column -> mean over all images.

    Returns:
        Its step, and a sentence with the gain on the unprocessed input; None where there is no score.
    """
    for prefix, what, unprocessed in (
        ("", "PSNR", "blurred input"),
        ("views_", "PSNR of the views", "both views = input"),
    ):
        known = {step: means for step, means in history.items() if means.get(f"{prefix}psnr") is not None}
        if not known:
            continue
        step = max(known, key=lambda one: known[one][f"{prefix}psnr"])
        best, before = known[step][f"{prefix}psnr"], known[step].get(f"input_{prefix}psnr")
        said = f"best validation {what} {best:.2f} dB" + (f" (step {step})" if step else "")
        return step, said + (
            f", {unprocessed} {before:.2f} dB: gain {best - before:+.2f} dB" if before is not None else ""
        )
    return None
