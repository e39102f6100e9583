"""`nimat IMAGE --weights FILE`."""

from pathlib import Path
from typing import Literal

from dualpixel.commands.arguments import call_one
from dualpixel.errors import DualPixelError


def run(arguments: list[str]) -> None:
    """Run the command."""
    call_one("dualpixel nimat", nimat, arguments)


def nimat(
    image: Path,
    weights: Path | None = None,
    recipe: str = "mdp",
    out: Path | None = None,
    smooth: int | None = None,
    seconds: float = 1.0,
    animation_width: int = 960,
    tile: int = 1024,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Make eight views and an animation of one photograph, in which what is out of focus moves in a circle (NIMAT).

    Args:
        image: the photograph: PNG, TIFF, JPEG or BMP, 8 or 16 bits, any size. It is turned as its EXIF tag says; an alpha channel is
            left away, and grey is taken as colour.
        weights: a .safetensors or .ckpt file of the recipe. `convert mdp` makes one from the authors' file.
        recipe: name or YAML of a recipe that predicts the left and the right view of one image: mdp or mdp_views.
        out: folder for view_0.png ... view_7.png, which have the size and the bits of the photograph, nimat.gif, nimat.webp and
            nimat.mp4; by default PHOTO_nimat in the working folder.
        smooth: frames of a turn in the animations, for example 32, interpolated between the eight views; at least 8. This is ours:
            the paper plays the eight views, as is done without this option.
        seconds: of one turn.
        animation_width: columns of the animations at most, pixels; the eight PNG files are never made smaller.
        tile: side of the squares that the network computes at once, pixels. The result does not depend on it; smaller ones take
            less memory, and more time.
        device: auto takes a CUDA device where there is one.
    """
    from dualpixel.data.images import read_image, write_png
    from dualpixel.running import animation

    _check(weights, out, tile)
    animation.check_animation(animation.VIEWS if smooth is None else smooth, seconds, animation_width)
    pixels = read_image(image, upright=True)

    import numpy as np

    from dualpixel.commands.loading import load_on
    from dualpixel.running.nimat import Canvas, check_predicts_views, eight_views, plan_runs
    from dualpixel.terminal import progress

    loaded = load_on(device, recipe, weights, check_predicts_views)
    out = Path(f"{image.stem}_nimat") if out is None else out
    height, width = pixels.shape[:2]
    canvas = Canvas(height, width)
    plan = plan_runs(canvas, loaded, tile)
    frames = {}
    with progress() as bar:
        task = bar.add_task("views", total=sum(map(len, plan.values())))
        for number, view in eight_views(loaded, pixels, canvas, plan, lambda: bar.advance(task)):
            write_png(out / f"view_{number}.png", view)
            frames[number] = animation.to_frame(view, animation_width)
    turn = np.stack([frames[number] for number in sorted(frames)])
    if smooth is not None:
        turn = animation.interpolate_turn(turn, smooth)
    animation.write_gif(out / "nimat.gif", turn, seconds)
    animation.write_webp(out / "nimat.webp", turn, seconds)
    animation.write_mp4(out / "nimat.mp4", turn, seconds)
    played = (
        "the eight views" if smooth is None else f"{smooth} frames interpolated between them (ours, not the paper's)"
    )
    print(
        f"{out}: view_0.png ... view_7.png ({width} x {height}, {8 * pixels.itemsize} bits); nimat.gif, nimat.webp, nimat.mp4 "
        f"play {played}"
    )


def _check(weights: Path | None, out: Path | None, tile: int) -> None:
    """Refuse wrong arguments before anything large is read or computed."""
    if weights is None:
        raise DualPixelError(
            "nimat needs --weights: train the recipe mdp, or get the authors' file (github.com/Abdullah-Abuolaim/"
            "multi-task-defocus-deblurring-dual-pixel-nimat) and run: convert mdp --source FILE.hdf5 --out mdp.safetensors"
        )
    if out is not None and out.exists() and not out.is_dir():
        raise DualPixelError(f"--out {out}: is a file; name a folder")
    if tile < 1:
        raise DualPixelError(f"--tile {tile}: must be at least 1")
