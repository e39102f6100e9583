"""A profile as tables of text, and these as Markdown."""

from collections.abc import Callable, Iterator, Sequence

from dualpixel.evaluate.cost.comparison import Comparison
from dualpixel.evaluate.cost.profile import BlockCost, Profile, SizeCost
from dualpixel.evaluate.grids import Cell, Grid, escape, markdown_table
from dualpixel.terminal import one_line

FIGURES = {"M": ".6g", "G": ",.2f", "s": ".3f"}
WHAT_IS_COUNTED = "convolutions, correlations, matrix products, on what the recipe pads to as well"
NOT_PUBLISHED = "No paper of those here prints what this network costs."
SAME_DIGITS = (
    "Same digits: the counted figure, rounded, is the printed one (yes), is it without the zeros at its end (to N digits), or is it where "
    "further digits are left out in place of rounding (if cut)."
)


def grids(found: Profile, peak_tflops: float | None = None) -> list[Grid]:
    """Return all tables of a profile.

    Args:
        found: the profile.
        peak_tflops: what the device can do at most, in 10^12 operations a second; None where nobody says it.
    """
    blocks = [_blocks(found, cost) for cost in found.sizes if cost.blocks]
    return [
        _parameters(found),
        _costs(found, peak_tflops),
        *([_published(found)] if found.published else []),
        *blocks,
    ]


def note(found: Profile) -> str:
    """Return what must be known beside the published figures, in a sentence."""
    return SAME_DIGITS if found.published else NOT_PUBLISHED


def markdown(found: Profile, tables: Sequence[Grid]) -> str:
    """Render the tables of a profile as one Markdown file."""
    lines = [f"# Cost of {escape(one_line(found.recipe))}", "", f"By dualpixel {escape(found.code)}.", ""]
    for grid in tables:
        lines += [f"## {escape(grid.title)}", "", *markdown_table(grid), ""]
    lines.append(note(found))
    return "\n".join(lines).rstrip() + "\n"


def _parameters(found: Profile) -> Grid:
    rows = [
        ("parameters", f"{found.parameters:,}", "of the network"),
        ("trainable parameters", f"{found.trainable:,}", "those that get a gradient"),
        *(
            [("parameters for inference", f"{found.inference:,}", "what can be computed once is stored in their place")]
            if found.inference != found.parameters
            else []
        ),
        *((f"  {part}: parameters", f"{count:,}", "") for part, count in found.parameters_by_part.items()),
        ("weights", _mebi(found.weights_bytes), "parameters and buffers"),
    ]
    return _grid(f"{found.recipe}: parameters", ["", "figure", "meaning"], rows, {1})


def _costs(found: Profile, peak_tflops: float | None) -> Grid:
    sizes = found.sizes

    def row(label: str, figure: Callable[[SizeCost], str], meaning: str = "") -> tuple[str, ...]:
        return (label, *map(figure, sizes), meaning)

    rows = [row("multiply-accumulates", lambda one: _giga(one.macs), WHAT_IS_COUNTED)]
    operators = sizes[0].macs_by_operator
    if len(operators) > 1:
        rows += [row(f"  {name}", lambda one, name=name: _giga(one.macs_by_operator[name])) for name in operators]
    for part in sizes[0].macs_by_part:
        rows.append(row(f"  {part}: multiply-accumulates", lambda one, part=part: _giga(one.macs_by_part[part])))
    if found.counted_by_paper:
        said, description = found.counted_by_paper
        rows.append(row(said, lambda one: _giga(one.operations_by_paper), description))
    if any(one.speed or one.out_of_memory for one in sizes):
        rows += _speeds(found, row, peak_tflops)
    headings = ["", *("x".join(map(str, one.size)) for one in sizes), "meaning"]
    return _grid(f"{found.recipe}: one image", headings, rows, set(range(1, len(sizes) + 1)))


def _speeds(
    found: Profile, row: Callable[..., tuple[str, ...]], peak_tflops: float | None
) -> Iterator[tuple[str, ...]]:
    speed = next((one.speed for one in found.sizes if one.speed), None)
    if speed is None:
        yield row("time", lambda one: "out of memory")
        return
    held = "allocated;" if speed.kind == "cuda" else "resident; libraries,"

    def spread(one: SizeCost) -> str:
        return f"{min(one.speed.passes):.4f} to {max(one.speed.passes):.4f} s" if one.speed else ""

    def rate(one: SizeCost) -> str:
        return f"{one.operations_per_second / 1e12:.4f} TFLOP/s" if one.operations_per_second else ""

    def utilisation(one: SizeCost) -> str:
        known = one.operations_per_second and peak_tflops
        return f"{one.operations_per_second / 1e10 / peak_tflops:.2f} %" if known else ""

    yield row(
        "time",
        lambda one: f"{one.speed.seconds:.4f} s" if one.speed else "out of memory",
        f"{speed.device}, {speed.precision}: median of {len(speed.passes)} passes behind {speed.warm_up} to warm up",
    )
    yield row("  fastest to slowest", spread)
    yield row("  rate", rate, "two operations for each multiply-accumulate")
    if peak_tflops:
        yield row("  model FLOP utilisation", utilisation, f"of {peak_tflops:g} TFLOP/s")
    yield row(
        "peak memory",
        lambda one: _mebi(one.speed.peak_bytes) if one.speed else "",
        f"{held} weights and input included",
    )
    yield row(
        "  added by the passes",
        lambda one: _mebi(one.speed.peak_bytes - one.speed.before_bytes) if one.speed else "",
        "above what was held before the first one",
    )


def _published(found: Profile) -> Grid:
    headings = ["source", "", "printed", "printed for", "counted here", "at", "difference", "same digits", "how"]
    rows = [
        (
            f"{one.method}: {one.citation}",
            one.quantity,
            f"{one.printed} {one.unit}",
            one.printed_for,
            f"{one.found:{FIGURES[one.unit]}} {one.unit}" if one.found is not None else "",
            "x".join(map(str, one.found_at)) if one.found_at else "",
            f"{one.difference_percent:+.2f} %" if one.difference_percent is not None else "",
            one.agreement or "",
            _how(one),
        )
        for one in found.published
    ]
    return _grid(f"{found.recipe}: published beside counted", headings, rows, {2, 4, 5, 6})


def _how(one: Comparison) -> str:
    return one.found_how + (f"; doubtful: {one.doubt}" if one.doubt else "")


def _blocks(found: Profile, cost: SizeCost) -> Grid:
    timed = cost.blocks[0].seconds is not None
    parameters, macs = (sum(getattr(one, name) or 0 for one in cost.blocks) for name in ("parameters", "macs"))
    seconds = sum(one.seconds or 0 for one in cost.blocks)
    total = BlockCost("all", parameters, None if cost.macs is None else macs, seconds if timed else None)
    names = [one.block for one in cost.blocks]
    headings = [
        "block",
        "parameters",
        "share",
        "multiply-accumulates",
        "share",
        *["time of a pass", "share"][: 2 * timed],
    ]
    rows = []
    for one in [*cost.blocks, total]:
        has_parts = any(name.startswith(f"{one.block}.") for name in names)
        cells = [f"{one.block}, beside its parts" if has_parts else one.block]
        cells += [f"{one.parameters:,}", _share(one.parameters, parameters), _giga(one.macs)]
        cells += [_share(one.macs, macs), *([f"{one.seconds:.4f} s", _share(one.seconds, seconds)] if timed else [])]
        rows.append(tuple(cells))
    size = "x".join(map(str, cost.size))
    return _grid(f"{found.recipe}: blocks at {size}", headings, rows, set(range(1, len(headings))))


def _grid(title: str, headings: list[str], rows: Sequence[tuple[str, ...]], numeric: set[int]) -> Grid:
    return Grid(
        one_line(title), headings, [[Cell(_indented(text)) for text in row] for row in rows], frozenset(numeric)
    )


def _share(part: float | None, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if part is not None and whole else ""


def _giga(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.9f} G"


def _mebi(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _indented(text: str) -> str:
    return " " * (len(text) - len(text.lstrip(" "))) + one_line(text)
