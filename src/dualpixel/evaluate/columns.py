"""The columns of a result, and the scores that stand in them.

Of the sharp image those of ``psnr``, ``ssim``, ``rmse_relative``, ``mae``, ``lpips`` that the protocol names, and the same of the
unprocessed input as ``input_psnr`` ...

Of predicted views ``left_psnr``, ``left_ssim``, ``left_mae``, the same of ``right_...``, and of each image the mean of its two
views, ``views_psnr`` ...; the blurry input in the place of both views gives ``input_views_psnr`` ... The paper of MDP prints one PSNR
for the views (39.17 dB, WACV 2022, table 3) and does not say which: presumably it is the mean of ``views_psnr``, the mean over both
views and all images. LPIPS is not measured on views, as it is not in the paper.

Of predicted blur against the data's blur ``abs_rel``, ``sq_rel``, ``rmse``, ``rmse_log``, ``delta1``, ``delta2``, ``delta3``, and the
same of a coarse map as ``coarse_abs_rel`` ... (DDDNet, CVPR 2021, prints both); against disparity that is known up to factor and offset
``ai1``, ``ai2``, ``one_minus_abs_rho``, ``one_minus_abs_rho_average_ranks``, ``geometric_mean``.
"""

from collections.abc import Callable, Container, Mapping, Sequence

from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.metrics import affine_invariant, depth, functional
from dualpixel.recipes.outputs import OUTPUTS, VIEWS

FUNCTIONS = {
    "psnr": functional.psnr,
    "ssim": functional.ssim,
    "rmse_relative": functional.rmse_relative,
    "mae": functional.mae,
}
IMAGE_METRICS = (*FUNCTIONS, "lpips")
SSIM = {"uniform7": functional.ssim, "gaussian11": functional.ssim_gaussian}
"""Variants of SSIM."""
SSIM_WINDOWS = {"uniform7": functional.SSIM_WINDOW, "gaussian11": functional.SSIM_GAUSSIAN_WINDOW}
"""Variant -> pixels along its window, which an image must have."""
MAP_METRICS = {"blur": tuple(depth.STANDARD), "disparity": affine_invariant.NAMES}
"""Map of the data -> the scores of what is compared with it."""
MAP_PREFIXES = {"blur": {"blur": "", "coarse": "coarse_"}, "disparity": {"blur": ""}}
"""Map of the data -> predicted maps that are compared with it -> what stands before their columns."""
Compare = Callable[[Tensor, Tensor], Tensor]


def column_names(
    outputs: Sequence[str], metrics: Sequence[str], with_input: bool, maps: Sequence[str] = (), truth: str | None = None
) -> list[str]:
    """Return the columns of a table.

    Args:
        outputs: what is scored, as `dualpixel.recipes.outputs.trained_outputs` returns it.
        metrics: those of `IMAGE_METRICS` that are measured.
        with_input: whether the unprocessed input is scored, too.
        maps: predicted maps that are scored, as `scored_maps` returns them.
        truth: the map of the data that they are compared with.
    """
    names: list[str] = []
    if "sharp" in outputs:
        names += [*metrics, *(f"input_{name}" for name in metrics if with_input)]
    if "left" in outputs:
        prefixes = ("left", "right", "views", *(("input_views",) if with_input else ()))
        names += [f"{prefix}_{name}" for prefix in prefixes for name in metrics if name in FUNCTIONS]
    return names + [MAP_PREFIXES[truth][one] + name for one in maps for name in MAP_METRICS[truth]]


COLUMNS = (
    *column_names(OUTPUTS, IMAGE_METRICS, with_input=True),
    *(one for truth in MAP_METRICS for one in column_names((), (), False, tuple(MAP_PREFIXES[truth]), truth)),
)
"""The columns that results of ours can have."""


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
    ssim: Compare = functional.ssim,
) -> dict[str, Tensor]:
    """Score a batch.

    Args:
        images: output -> (B, 3, H, W) in [0, 1], of "sharp", and of both "left" and "right" or neither.
        targets: at least the same names -> the same shapes.
        unprocessed: the blurry input (B, 3, H, W); None where there is none.
        metrics: see `column_names`.
        perceptual: what measures LPIPS; without it the column stays empty.
        ssim: the variant of SSIM.

    Returns:
        Column of `column_names` -> (B,), but for LPIPS that cannot be measured.
    """
    plain = {name: one for name, one in (FUNCTIONS | {"ssim": ssim}).items() if name in metrics}
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


def scored_maps(truth: str | None, prediction: Container[str]) -> tuple[str, ...]:
    """Return the predicted maps that are compared with a map of the data.

    Args:
        truth: "blur" or "disparity"; None where maps are not scored.
        prediction: what the recipe predicts.
    """
    return tuple(name for name in MAP_PREFIXES.get(truth or "", ()) if name in prediction)


def score_maps(maps: Mapping[str, Tensor], truth: str, target: Tensor, keys: Sequence[str]) -> dict[str, Tensor]:
    """Score the predicted maps of a batch.

    Args:
        maps: name of `scored_maps` -> (B, 1, H, W), as the protocol compares it.
        truth: which map of the data they are compared with.
        target: that map, (B, 1, H, W); NaN where unknown.
        keys: names of the images, for the message.

    Returns:
        Column of `column_names` -> (B,) float64.

    Raises:
        DualPixelError: blur of the data that is not positive, which relative errors cannot be taken of.
    """
    if truth == "blur" and (target <= 0).any():
        raise DualPixelError(
            f"{', '.join(keys)}: relative errors of inverse depth need blur above 0, and the data's goes down to "
            f"{target.nan_to_num(float('inf')).min().item():.4g} pixels; choose another --protocol"
        )
    score = depth.depth_scores if truth == "blur" else affine_invariant.affine_invariant_scores
    prefixes = MAP_PREFIXES[truth]
    return {
        prefixes[one] + name: column for one, found in maps.items() for name, column in score(found, target).items()
    }


def _compare(prefix: str, image: Tensor, target: Tensor, measures: Mapping[str, Compare]) -> dict[str, Tensor]:
    return {prefix + name: measure(image, target) for name, measure in measures.items()}


def _means(prefix: str, of_views: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {prefix + name: sum(one[name] for one in of_views) / len(of_views) for name in of_views[0]}
