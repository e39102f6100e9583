"""Rate of the layered half discs beside two straightforward layered renderers, on one CPU thread, all in float64."""

import pytest
import torch
from side_by_side import process_seconds
from torch.nn import functional

from dualpixel.data.made_up_depth import made_up_depth
from dualpixel.optics.half_disc import half_disc_kernels, render_half_disc

LARGEST = 12
COLUMNS = 2**18  # values that torch unfolds at a time: the caches hold them, and the direct side is at its fastest
TARGETS = {"direct": 6, "Fourier": 4}


def direct(stack: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolve (K, 1, H, W) with (2, 1, n, n) by torch's own convolution: (K, 2, H, W)."""
    size, flipped = kernels.shape[-1], kernels.flip(-1, -2)
    padded = functional.pad(stack, [size // 2] * 4)
    rows = max(1, COLUMNS // (size**2 * stack.shape[3]))
    channels = [
        torch.cat(
            [
                functional.conv2d(channel[:, top : top + rows + size - 1], flipped)
                for top in range(0, stack.shape[2], rows)
            ],
            1,
        )
        for channel in padded
    ]
    return torch.stack(channels)


def fourier(stack: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Convolve (K, 1, H, W) with (2, 1, n, n) by a Fourier transform of the whole frame: (K, 2, H, W)."""
    reach, (height, width) = kernels.shape[-1] // 2, stack.shape[2:]
    size = [length + 2 * reach + length % 2 for length in (height, width)]
    spectrum = torch.fft.rfft2(stack, s=size) * torch.fft.rfft2(kernels[:, 0], s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., reach : reach + height, reach : reach + width]


def whole_frame(image: torch.Tensor, blur: torch.Tensor, convolve) -> torch.Tensor:
    """Lay whole frames over one another, farthest first: image (1, 3, H, W) to views (3, 2, H, W)."""
    layer = torch.floor(blur[0] + 0.5).int()
    colours, coverage = torch.zeros(3, 2, *layer.shape[1:], dtype=torch.float64), 0.0
    for number in layer.unique().tolist():
        mask = (layer == number).double()
        blurred = convolve(torch.cat([image[0] * mask, mask])[:, None], half_disc_kernels(number)[:, None])
        through = 1 - blurred[3]
        colours, coverage = blurred[:3] + through * colours, blurred[3] + through * coverage
    return colours / coverage.clamp(min=1e-6)


def scene(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a random image, and the blur of made-up depth with a largest radius of `LARGEST`."""
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    depth = torch.from_numpy(made_up_depth(height, width, 3, 0.8, 10.0))[None, None].double()
    blur = 1 / depth - 1 / 2.0
    return image, blur * (LARGEST / blur.abs().max())


@pytest.mark.benchmark
@pytest.mark.parametrize(("height", "width", "passes"), [(480, 640, 3), (1120, 1680, 1)])
def test_half_disc_rate(height, width, passes):
    image, blur = scene(height, width)
    sides = {
        "dualpixel": lambda: torch.cat(render_half_disc(image, blur)).transpose(0, 1),
        "direct": lambda: whole_frame(image, blur, direct),
        "Fourier": lambda: whole_frame(image, blur, fourier),
    }
    median = process_seconds(sides, passes)
    ratios = {name: median[name] / median["dualpixel"] for name in TARGETS}
    print(
        f"\n| halfdisc 3x{height}x{width}, {len(torch.floor(blur + 0.5).unique())} layers, one thread | "
        f"{1000 * median['dualpixel']:.0f} ms | "
        + " | ".join(f"{ratio:.1f} x {name} (target {TARGETS[name]} x)" for name, ratio in ratios.items())
        + " |"
    )
    views = sides["dualpixel"]()
    for name in TARGETS:
        assert (views - sides[name]()).abs().max() < 1e-9
        assert ratios[name] >= TARGETS[name]
