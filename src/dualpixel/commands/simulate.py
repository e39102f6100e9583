"""`simulate --source DIR --out DIR`."""

import shlex
from pathlib import Path
from typing import Literal

from dualpixel.commands.arguments import call_one, run_plugin
from dualpixel.data.registry import get_card


def run(arguments: list[str]) -> None:
    """Run the command."""
    call_one("dualpixel simulate", simulate, arguments, positional=False)


def simulate(
    source: Path,
    out: Path,
    camera: Path | None = None,
    card: str = "rgbd",
    bit_depth: Literal[8, 16] = 16,
    seed: int = 0,
    processes: int | None = None,
    plugin: Path | None = None,
) -> None:
    """Render a dual-pixel pair from every RGB-D scene of a folder; a stopped run goes on where it stopped.

    Args:
        source: folder with colour and depth, such as SCENE/rgb.png + SCENE/depth.png (`data show rgbd` describes it).
        out: folder for the pairs, a data set of its own.
        camera: a YAML with settings of the camera, for example "f_number: [1.4, 4]" and "focus: near" on two lines; ranges are drawn
            from for each scene. OUT/camera.yaml holds all settings of a run.
        card: the card (name or path) that says how the source is read; copy registry/rgbd.yaml to change the unit of the depth,
            cut a border, and so on.
        bit_depth: bits per channel of the images written.
        seed: of the cameras that are drawn.
        processes: worker processes; by default one a core.
        plugin: a Python file of yours that registers a reader.
    """
    from dualpixel.data.simulate import CARD, simulate_pairs
    from dualpixel.data.simulated import load_views

    run_plugin(plugin)
    made = simulate_pairs(get_card(card), source, out, load_views(camera), bit_depth, seed, processes)
    counts = ", ".join(f"{len(keys)} {split}" for split, keys in made.scenes.items())
    print(f"{out}: {counts}; {made.rendered} rendered now; all settings in {out / 'camera.yaml'}")
    if made.empty:
        print(f"without scenes: {', '.join(made.empty)}; {made.when_empty}")
    print(f"next: python -m src data prepare {shlex.quote(str(out / CARD))} --source {shlex.quote(str(out))}")
