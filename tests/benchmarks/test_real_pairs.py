"""How well each model of the point spread function draws real dual-pixel pairs; one table, and what is sure about it."""

import cv2
import numpy as np
import pytest
import torch
from benchmarks.canon_patches import fit_patches, read_patches
from benchmarks.pixel_fits import fit_scene
from benchmarks.pixel_kernels import MeasuredKernels, centroids, fit_kernels, read_kernels
from benchmarks.pixel_scenes import SCENES, defocus_ends, measured_disparity, read_scene
from benchmarks.real_pairs import MODELS, Displacement, NoBlur, markdown

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1), cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0]), cv2.setNumThreads(threads[1])


@pytest.fixture(scope="module")
def pixel(shared):
    return shared / "data" / "pixel4_dp"


@pytest.fixture(scope="module")
def scene_fits(pixel):
    models = NoBlur(), Displacement(), *MODELS, MeasuredKernels(*read_kernels(pixel))
    return {model.name: {name: fit_scene(model, read_scene(pixel, name)) for name in SCENES} for model in models}


@pytest.fixture(scope="module")
def kernel_fits(pixel):
    return {model.name: fit_kernels(model, *read_kernels(pixel)) for model in MODELS}


@pytest.fixture(scope="module")
def canon(shared):
    return read_patches(shared / "data" / "canon_dpdisp")


@pytest.fixture(scope="module")
def canon_fits(canon):
    return {model.name: fit_patches(model, canon) for model in (Displacement(), *MODELS)}


@pytest.fixture(scope="module")
def matched(pixel):
    """The disparity of the pairs at the ends of the defocus, by matching the two views."""
    found = []
    for name in SCENES:
        scene = read_scene(pixel, name)
        offset, slope = measured_disparity(scene)
        found.append(offset + slope * defocus_ends(scene))
    return np.array(found)


def test_the_table(matched, scene_fits, kernel_fits, canon_fits, canon):
    head = ["model", "fitted r (px)", "its disparity (px)", "PSNR (dB)", "over no blur", "fitted r, kernels"]
    head += ["correlation", "relative error", "fitted disparity (px), Canon", "gain (dB)"]
    head += ["rank correlation", "before the background"]
    rows, scenes = [["the views, matched", "", _span(np.median(matched, 0)), *[""] * 9]], []
    plain = np.mean([fit.psnr for fit in scene_fits["no blur"].values()])
    near = canon.disparity > np.median(canon.disparity) + 30
    for name, fits in scene_fits.items():
        radii, disparities = (
            np.median([getattr(fit, field) for fit in fits.values()], 0) for field in ("radii", "disparities")
        )
        psnr = np.mean([fit.psnr for fit in fits.values()])
        row = [name, _span(radii), _span(disparities), f"{psnr:.2f}", f"{psnr - plain:+.2f}"]
        if name in kernel_fits:
            fit = kernel_fits[name]
            row += [
                f"{np.median(value):.{digits}f}"
                for value, digits in ((fit.radius, 1), (fit.correlation, 3), (fit.error, 3))
            ]
        else:
            row += ["", "", ""]
        if name in canon_fits:
            fit = canon_fits[name]
            row += [_span([np.median(fit.disparity[near]), np.median(fit.disparity[~near])])]
            row += [f"{fit.gain:+.2f}", f"{fit.rank_correlation:.3f}", f"{fit.rank_correlation_before:.3f}"]
        else:
            row += ["", "", "", ""]
        rows.append(row)
        cells = [f"{fits[scene].psnr:.2f} ({fits[scene].slope:.1f}, {fits[scene].offset:+.1f})" for scene in SCENES]
        scenes.append([name, *cells])
    print(f"\n{markdown(head, rows)}\n\n{markdown(['PSNR (a, b)', *SCENES], scenes)}")
    assert len(rows) == len(MODELS) + 4


def _span(ends):
    return " … ".join(f"{end:.1f}" for end in ends)


def test_every_model_draws_every_scene_better_than_no_blur_and_than_displacement(scene_fits):
    for name in (model.name for model in MODELS):
        for scene, fit in scene_fits[name].items():
            assert fit.psnr > scene_fits["no blur"][scene].psnr + 3, (name, scene)
            assert fit.psnr > scene_fits["displacement, no blur"][scene].psnr + 3, (name, scene)


def test_the_radius_of_the_most_defocused_has_the_sign_of_the_disparity(matched, scene_fits):
    assert matched[:, 1].max() < -5
    for name in (model.name for model in MODELS):
        for scene, fit in scene_fits[name].items():
            assert fit.radii[1] < -5, (name, scene)


def test_soft_kernels_are_nearer_to_the_scenes_of_a_pixel_than_hard_ones(scene_fits):
    mean = {name: np.mean([fit.psnr for fit in fits.values()]) for name, fits in scene_fits.items()}
    hard = max(mean["rect, sym, energy"], mean["halfdisc"])
    soft = [value for name, value in mean.items() if name.startswith(("translating_disk", "butterworth"))]
    assert min(soft) > hard + 1
    assert mean["measured kernels, resized"] == max(mean.values())


def test_soft_kernels_are_nearer_to_the_measured_ones_than_hard_ones(pixel, kernel_fits):
    left, right = read_kernels(pixel)
    assert (centroids(left) - centroids(right))[:, 0].max() < -4
    error = {name: np.median(fit.error) for name, fit in kernel_fits.items()}
    for name, fit in kernel_fits.items():
        assert fit.radius.max() < -8, name
        assert error[name] < 0.9
    hard = min(error["rect, sym, energy"], error["halfdisc"])
    assert max(value for name, value in error.items() if name.startswith(("translating_disk", "butterworth"))) < hard


def test_every_model_finds_the_order_of_depths_of_a_canon_scene_and_the_translating_disk_explains_it_best(canon_fits):
    for name, fit in canon_fits.items():
        assert fit.gain > 5, name
        assert fit.rank_correlation > 0.5, name
        assert fit.rank_correlation_before > 0.8, name
        assert fit.disparity.min() < 0 < fit.disparity.max(), name
    gain = {name: fit.gain for name, fit in canon_fits.items()}
    assert gain["translating_disk"] == max(gain.values())
