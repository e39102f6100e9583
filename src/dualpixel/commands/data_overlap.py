"""`data overlap`: which scenes are in two splits."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from dualpixel.errors import DualPixelError
from dualpixel.terminal import console

PRINTED = 50


def overlap(
    a: str,
    b: str,
    split_a: str | None = None,
    split_b: str | None = None,
    out: Path = Path("overlap"),
    fail: bool = False,
) -> None:
    """Find scenes of one set in another, however they were blurred, scaled or lit: test scenes that leak into training.

    Every split but train of each set is held against train of the other; a set may be held against itself.

    Args:
        a: a card's name or path, a folder with prepared splits, or the address of one split.
        b: the same.
        split_a: only this split of the first set.
        split_b: only this split of the second; where both are named they are compared whatever they are.
        out: folder for the report and the sheet of pairs.
        fail: end with an error where a scene is found in both.
    """
    from dualpixel.data.leaks import compare, comparisons, draw_pairs, look, write_report

    splits = comparisons(a, b, split_a, split_b)
    looks = {folder: look(folder) for folder in dict.fromkeys(folder for both in splits for folder in both)}
    found = [compare(looks[one], looks[other]) for one, other in splits]

    name = "-".join(one.split.index.dataset for one in (found[0].a, found[0].b))
    report, sheet = out / f"{name}.json", out / f"{name}.png"
    write_report(report, found)
    sheet.unlink(missing_ok=True)  # of an earlier comparison
    rows = [(one, pair) for one in found for pair in one.pairs]
    if rows:
        draw_pairs(sheet, found)
        table = Table()
        for heading in ("scene A", "scene B", "bits of 256", "correlation", "verdict"):
            table.add_column(heading)
        for one, pair in rows[:PRINTED]:
            verdict = f"{pair.verdict}{', mirrored' if pair.mirrored else ''}"
            scenes = (f"{name} {key}" for name, key in zip(one.names(), (pair.a, pair.b), strict=True))
            table.add_row(*map(escape, scenes), str(pair.distance), f"{pair.correlation:.2f}", verdict)
        console().print(table)
        if len(rows) > PRINTED:
            print(f"... and {len(rows) - PRINTED} more in {report}")
    print("\n".join(one.said() for one in found))
    print(f"{report}{f', {sheet}' if rows else ''}")
    same = sum(len(one.same()) for one in found)
    if fail and same:
        raise DualPixelError(f"{same} pairs of scenes of {a} and {b} are the same; see {report}")
