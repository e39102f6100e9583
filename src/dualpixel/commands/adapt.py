"""`adapt --weights FILE --source FOLDER_OR_FILES --out FILE`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dualpixel.commands.arguments import parse
from dualpixel.errors import DualPixelError

if TYPE_CHECKING:  # torch is imported only once the arguments are known to be right
    from dualpixel.optics import Camera
    from dualpixel.recipes import Recipe
    from dualpixel.running.adaptation import Adaptation, Adapted

DRAWN = 3
"""Photographs on the sheet, at most."""


def run(arguments: list[str]) -> None:
    """Run the command."""
    from jsonargparse import ArgumentParser

    summary = adapt.__doc__.split("\n")[0]
    parser = ArgumentParser(prog="dualpixel adapt", description=summary, exit_on_error=False)
    parser.add_argument(
        "--source",
        type=Path,
        nargs="+",
        required=True,
        help="photographs: folders with left/ and right/, or files or folders of files NAME_L and NAME_R",
    )
    parser.add_function_arguments(adapt, as_positional=False, skip={"source"})
    adapt(**parser.instantiate_classes(parse(parser, arguments)).as_dict())


def adapt(
    weights: Path,
    source: list[Path],
    out: Path,
    recipe: str = "dddnet",
    steps: int = 200,
    learning_rate: float = 1e-5,
    crop_size: int = 192,
    batch_size: int = 4,
    patience: int = 5,
    every: int = 20,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    camera: Path | None = None,
) -> None:
    """Adapt weights to your own photographs without any truth: image and blur, rendered, have to be the views again.

    Args:
        weights: a .safetensors or .ckpt file of the recipe.
        source: photographs: folders with left/ and right/, or files or folders of files NAME_L and NAME_R. All are held in memory.
        out: the .safetensors file to be written; OUT_adaptation.json and OUT_adaptation.png come beside it. None of the three
            may be there.
        recipe: name or YAML of a recipe that predicts the blur; its options say how the blur is rendered. For weights of your own
            give runs/RUN/config.yaml of their training.
        steps: of the optimizer at most.
        learning_rate: of Adam.
        crop_size: side of the crops, pixels; less where a photograph is smaller.
        batch_size: crops in a step.
        patience: end after so many checks in a row without a lower error.
        every: steps between two checks.
        seed: of the places of the crops.
        device: auto takes a CUDA device where there is one.
        camera: a YAML as `simulate` takes it, with numbers in place of ranges and a distance as focus: prints which depths the
            predicted blur means. It changes nothing else.
    """
    report, sheet = (out.with_name(f"{out.stem}_adaptation{ending}") for ending in (".json", ".png"))
    _check_files(weights, out, report, sheet)
    lens = None if camera is None else _lens(camera)

    from dualpixel.commands.loading import load_on
    from dualpixel.files import write_json
    from dualpixel.running.adaptation import Adaptation, adapt_weights, check_adapts, read_photographs
    from dualpixel.running.adaptation_sheet import draw_adaptation
    from dualpixel.terminal import progress
    from dualpixel.weights.files import load_weights, save_weights, weights_hash

    settings = Adaptation(steps, learning_rate, crop_size, batch_size, patience, every, seed)
    loaded = load_on(device, recipe, weights, check_adapts)
    photographs = read_photographs(loaded, source)
    given, metadata = load_weights(weights)
    with progress() as bar:
        task = bar.add_task("steps", total=steps)
        adapted = adapt_weights(
            loaded, photographs, settings, list(photographs)[:DRAWN], lambda done: bar.advance(task, done)
        )
    content = _report(adapted, settings, loaded, lens) | {
        "weights": str(weights),
        "weights_hash": weights_hash(given),
        "source": [str(path) for path in source],
    }
    write_json(report, content)
    draw_adaptation(sheet, adapted)
    added = {
        "adapted_from": content["weights_hash"],
        "adapted_on": ", ".join(photographs),
        "adapted_steps": str(adapted.best_step),
        "adapted_error": f"{adapted.before.error:.6g} before, {adapted.after.error:.6g} after",
    }
    save_weights(out, loaded.net.state_dict(), {**metadata, **loaded.weights_metadata(), **added})
    _say(out, report, sheet, adapted, crop_size, content.get("depth_m"))


def _check_files(weights: Path, out: Path, report: Path, sheet: Path) -> None:
    """Refuse wrong files before anything large is read or computed."""
    if not weights.is_file():
        raise DualPixelError(f"--weights {weights}: no such file; give a .safetensors file or a .ckpt file")
    if out.suffix != ".safetensors":
        raise DualPixelError(f"--out {out}: must end in .safetensors")
    for path in (out, report, sheet):
        if path.exists():
            raise DualPixelError(f"{path}: is there already, and is not overwritten; remove it or give another --out")


def _lens(path: Path) -> "Camera":
    """Return the one camera of a YAML with settings."""
    from dualpixel.data.simulated import RANGES, load_views
    from dualpixel.optics import Camera

    views = load_views(path)
    values = {name: getattr(views, name) for name in (*RANGES, "focus")}
    for name, value in values.items():
        if not isinstance(value, float):
            raise DualPixelError(
                f"camera {path}: {name} is {value}; to read depth from blur, one camera is needed: give a number"
            )
    try:
        return Camera.from_f_number(focus_distance_m=values.pop("focus"), **values)
    except ValueError as error:
        raise DualPixelError(f"camera {path}: {error}") from None


def _report(adapted: "Adapted", settings: "Adaptation", recipe: "Recipe", lens: "Camera | None") -> dict[str, Any]:
    stages = {"before": adapted.before, "after": adapted.after}
    content = {
        "error": {stage: one.error for stage, one in stages.items()} | {"without_blur": adapted.before.error_without},
        "best_step": adapted.best_step,
        "steps": adapted.steps,
        "ended": adapted.ended,
        "curve": [{"step": step, "error": error} for step, error in adapted.curve],
        "photographs": {
            name: {
                "held_out": held_out,
                "error": {stage: one.errors[name] for stage, one in stages.items()}
                | {"without_blur": adapted.before.without[name]},
                "blur_radius_px": {stage: one.radii[name] for stage, one in stages.items()},
                "share_clamped": {stage: one.beyond[name] for stage, one in stages.items()},
            }
            for name, held_out in adapted.held_out.items()
        },
        "percentiles": "5, 50 and 95 of the signed blur radius, positive nearer than the focus plane",
        "recipe": recipe.name,
        "rendering": recipe.rendering,
        "settings": vars(settings),
        "crop": list(adapted.crop),
    }
    if lens is not None:
        radii = {name: (low, high) for name, (low, _, high) in adapted.after.radii.items()}
        content["depth_m"] = {name: [_depth(lens, one) for one in reversed(both)] for name, both in radii.items()}
    return content


def _depth(lens: "Camera", radius: float) -> float | None:
    """Return the depth with a blur radius, metres; None where the radius is at or beyond that of infinity."""
    import math

    return lens.depth(radius) if radius > lens.blur_radius(math.inf) else None


def _say(
    out: Path,
    report: Path,
    sheet: Path,
    adapted: "Adapted",
    crop_size: int,
    depths: dict[str, list[float | None]] | None,
) -> None:
    print(
        f"reblur error {adapted.before.error:.5f} before, {adapted.after.error:.5f} after {adapted.best_step} of "
        f"{adapted.steps} steps ({adapted.ended})"
    )
    if min(adapted.crop) < crop_size:
        print(f"crops were {' x '.join(map(str, adapted.crop))} pixels: the smallest photograph has no more")
    if adapted.best_step == 0:
        print(f"no check found a lower error: {out.name} holds the weights as they were; try another --learning_rate")
    if adapted.after.error >= adapted.before.error_without:
        print(
            f"the mean of the views with no blur at all has an error of {adapted.before.error_without:.5f}: what is predicted explains "
            "the views no better"
        )
    if not any(any(three) for three in adapted.before.radii.values()):
        print(
            "the weights that came in render no blur anywhere, where none can be learned: train them with depth first, or give the "
            "configuration of their training, --recipe runs/RUN/config.yaml"
        )
    for name, both in (depths or {}).items():
        near, far = ("infinity" if one is None else f"{one:.3g} m" for one in both)
        print(f"{name}: nine tenths of the blur mean depths from {near} to {far}")
    print(f"{out}; {report.name} and {sheet.name} beside it")
