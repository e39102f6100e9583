"""The columns of a result, and the scores that stand in them.

Of the sharp image ``psnr``, ``ssim``, ``mae``, ``lpips``, and the same of the unprocessed input as ``input_psnr`` ...

Of predicted views ``left_psnr``, ``left_ssim``, ``left_mae``, the same of ``right_...``, and of each image the mean of its two
views, ``views_psnr`` ...; the blurry input in the place of both views gives ``input_views_psnr`` ... The paper of MDP prints one PSNR
for the views (39.17 dB, WACV 2022, table 3) and does not say which: presumably it is the mean of ``views_psnr``, the mean over both
views and all images. LPIPS is not measured on views, as it is not in the paper.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.metrics import functional
from dualpixel.recipes.outputs import OUTPUTS, VIEWS

FUNCTIONS = {"psnr": functional.psnr, "ssim": functional.ssim, "mae": functional.mae}
Compare = Callable[[Tensor, Tensor], Tensor]


def column_names(outputs: Sequence[str], metrics: Sequence[str], with_input: bool) -> list[str]:
    """Return the columns of a table.

    Args:
        outputs: what is scored, as `dualpixel.recipes.outputs.trained_outputs` returns it.
        metrics: "psnr", "ssim", "mae", "lpips", those that are measured.
        with_input: whether the unprocessed input is scored, too.
    """
    names: list[str] = []
    if "sharp" in outputs:
        names += [*metrics, *(f"input_{name}" for name in metrics if with_input)]
    if "left" in outputs:
        prefixes = ("left", "right", "views", *(("input_views",) if with_input else ()))
        names += [f"{prefix}_{name}" for prefix in prefixes for name in metrics if name in FUNCTIONS]
    return names


def check_monitor(monitor: str, outputs: Sequence[str], metrics: Sequence[str]) -> None:
    """Refuse, before an epoch is spent, to keep the best checkpoint by a score that will never be there.

    Args:
        monitor: what decides; only the scores of validation, ``val/psnr`` ..., are looked at.
        outputs: what is scored, see `column_names`.
        metrics: those that validation measures.

    Raises:
        DualPixelError: it is a score of another output.
    """
    mine, known = (column_names(names, metrics, with_input=True) for names in (outputs, OUTPUTS))
    name = monitor.rpartition("/")[2]
    if monitor.startswith("val/") and name in known and name not in mine:
        fitting = [f"val/{one}" for one in mine if one in ("psnr", "views_psnr")] or ["val/loss"]
        raise DualPixelError(
            f"{monitor} cannot decide which checkpoint is the best: the recipe is not scored by it; "
            f"choose --best.monitor {' or '.join(fitting)}"
        )


def score_images(
    images: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    unprocessed: Tensor | None,
    metrics: Sequence[str],
    perceptual: Compare | None = None,
) -> dict[str, Tensor]:
    """Score a batch.

    Args:
        images: output -> (B, 3, H, W) in [0, 1], of "sharp", and of both "left" and "right" or neither.
        targets: at least the same names -> the same shapes.
        unprocessed: the blurry input (B, 3, H, W); None where there is none.
        metrics: see `column_names`.
        perceptual: what measures LPIPS; without it the column stays empty.

    Returns:
        Column of `column_names` -> (B,), but for LPIPS that cannot be measured.
    """
    plain = {name: FUNCTIONS[name] for name in metrics if name in FUNCTIONS}
    scores: dict[str, Tensor] = {}
    if "sharp" in images:
        measures = plain | ({"lpips": perceptual} if perceptual and "lpips" in metrics else {})
        scores |= _compare("", images["sharp"], targets["sharp"], measures)
        if unprocessed is not None:
            scores |= _compare("input_", unprocessed, targets["sharp"], measures)
    if "left" in images:
        of_view = {view: _compare("", images[view], targets[view], plain) for view in VIEWS}
        scores |= {f"{view}_{name}": column for view, found in of_view.items() for name, column in found.items()}
        scores |= _means("views_", list(of_view.values()))
        if unprocessed is not None:
            scores |= _means("input_views_", [_compare("", unprocessed, targets[view], plain) for view in VIEWS])
    return scores


def _compare(prefix: str, image: Tensor, target: Tensor, measures: Mapping[str, Compare]) -> dict[str, Tensor]:
    return {prefix + name: measure(image, target) for name, measure in measures.items()}


def _means(prefix: str, of_views: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {prefix + name: sum(one[name] for one in of_views) / len(of_views) for name in of_views[0]}
