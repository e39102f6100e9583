"""Scores of restored images and of depth maps: pure functions, the perceptual distance, and the table of scores per image."""

from importlib import import_module
from typing import Any

__all__ = [
    "AffineInvariantScores",
    "DepthScores",
    "PerImageScores",
    "PerceptualDistance",
    "affine_invariant",
    "affine_invariant_scores",
    "depth",
    "depth_scores",
    "functional",
    "load_perceptual",
    "mae",
    "psnr",
    "rmse_relative",
    "ssim",
    "ssim_gaussian",
    "summarise",
]

_HOMES = {
    "AffineInvariantScores": "affine_invariant",
    "DepthScores": "depth",
    "PerImageScores": "per_image",
    "PerceptualDistance": "perceptual",
    "affine_invariant_scores": "affine_invariant",
    "depth_scores": "depth",
    "load_perceptual": "perceptual",
    "mae": "functional",
    "psnr": "functional",
    "rmse_relative": "functional",
    "ssim": "functional",
    "ssim_gaussian": "functional",
    "summarise": "per_image",
}


def __getattr__(name: str) -> Any:
    """Import on first use: naming this room must not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(f"dualpixel.metrics.{_HOMES[name]}"), name)
    if name in ("affine_invariant", "depth", "functional", "per_image", "perceptual"):
        return import_module(f"dualpixel.metrics.{name}")
    raise AttributeError(f"module 'dualpixel.metrics' has no attribute {name!r}")
