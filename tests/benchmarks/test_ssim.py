"""Rate of our SSIM beside scikit-image, on one CPU thread at the size of the papers."""

import cv2
import numpy as np
import pytest
import torch
from side_by_side import process_seconds
from skimage.metrics import structural_similarity

from dualpixel.metrics.functional import ssim

TARGET = 1.8


@pytest.mark.benchmark
def test_ssim_rate():
    generator = np.random.default_rng(0)
    coarse = generator.random((70, 105, 3), dtype=np.float32)
    smooth = cv2.resize(coarse, (1680, 1120), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    noisy = (smooth + 0.05 * generator.standard_normal(smooth.shape, dtype=np.float32)).clip(0, 1)
    noisy64, smooth64 = noisy.astype(np.float64), smooth.astype(np.float64)
    prediction, target = (torch.from_numpy(image).permute(2, 0, 1)[None].contiguous() for image in (noisy, smooth))
    sides = {
        "dualpixel": lambda: ssim(prediction, target).item(),
        "scikit-image float32": lambda: structural_similarity(noisy, smooth, channel_axis=2, data_range=1.0),
        "scikit-image float64": lambda: structural_similarity(noisy64, smooth64, channel_axis=2, data_range=1.0),
    }
    median = process_seconds(sides)
    single, double = (median[f"scikit-image float{bits}"] / median["dualpixel"] for bits in (32, 64))
    print(
        f"\n| SSIM 3x1120x1680, one thread | {1000 * median['dualpixel']:.0f} ms | "
        f"{single:.1f} x scikit-image float32 | {double:.1f} x scikit-image float64 | target {TARGET} x float32 |"
    )
    assert sides["dualpixel"]() == pytest.approx(sides["scikit-image float64"](), abs=1e-6)
    assert single >= TARGET
