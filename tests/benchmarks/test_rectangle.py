"""What the sub-pixel rectangle costs beside other ways to render, side by side in one run on one thread."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.fft import next_fast_len
from side_by_side import process_seconds

from dualpixel.data.made_up_depth import made_up_depth
from dualpixel.optics import Camera, render

pytestmark = pytest.mark.benchmark
SIZES = [(480, 640), (1120, 1680)]
LAYERS = 16


def scene(height, width, largest):
    """A random image, and the blur of a made-up depth map, stretched to reach the largest radius."""
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    depth = torch.from_numpy(made_up_depth(height, width, 1, 1.0, 6.0))[None, None]
    blur = Camera(0.05, 1000, 300, 2.0).blur_radius(depth)
    return image, blur * (largest / blur.abs().max())


def half_discs_by_fourier_transforms(image, blur):
    """The usual layered renderer: 16 layers of equal blur, each convolved by Fourier transforms in float32, composited."""
    height, width = image.shape[-2:]
    reach = math.ceil(float(blur.abs().max())) + 1
    size = [next_fast_len(length + 2 * reach, real=True) for length in (height, width)]
    edges = torch.linspace(float(blur.min()), float(blur.max()), LAYERS + 1)
    layer = torch.bucketize(blur[0, 0], edges[1:-1])
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    out, alpha = torch.zeros(2, 3, height, width), torch.zeros(2, 1, height, width)
    for number in range(LAYERS):
        radius = float(edges[number] + edges[number + 1]) / 2
        disc = (offsets[:, None] ** 2 + offsets**2 <= (abs(radius) + 0.5) ** 2).float()
        mask = (layer == number).float()
        spectrum = torch.fft.rfft2(torch.cat([image[0] * mask, mask[None]]), size)
        for view, side in enumerate((1, -1)):
            kernel = disc * (offsets * side * (1 if radius >= 0 else -1) >= 0)
            kernel = torch.fft.rfft2(kernel / kernel.sum(), size)
            blurred = torch.fft.irfft2(spectrum * kernel, size)[:, reach : reach + height, reach : reach + width]
            out[view] = blurred[:3] + (1 - blurred[3:]) * out[view]
            alpha[view] = blurred[3:] + (1 - blurred[3:]) * alpha[view]
    return out / alpha.clamp(min=1e-6)


def rectangles_by_64_scatters(image, blur):
    """The integral-image form as it is written down: four taps at each of four corners, colours and weights, both views."""
    height, width = image.shape[-2:]
    r = blur[0, 0].double()
    extent, pad = r.abs(), math.ceil(float(blur.abs().max())) + 2
    weight = 1 / ((1 + extent) * (1 + 2 * extent))
    colours = (image[0].double() * weight).reshape(3, -1)
    rows, columns = torch.arange(height)[:, None] + pad, torch.arange(width)[None] + pad
    stride = width + 2 * pad
    views = []
    for near, far in ((r.clamp(min=0), r.clamp(max=0)), (-r.clamp(max=0), -r.clamp(min=0))):
        sums, weights = (
            torch.zeros(3, (height + 2 * pad) * stride).double(),
            torch.zeros((height + 2 * pad) * stride).double(),
        )
        for row_sign, row in ((1, rows - extent), (-1, rows + 1 + extent)):
            for column_sign, column in ((1, columns + far), (-1, columns + 1 + near)):
                top, left = row.floor(), column.floor()
                for down, row_share in ((0, 1 - (row - top)), (1, row - top)):
                    for across, column_share in ((0, 1 - (column - left)), (1, column - left)):
                        at = ((top + down) * stride + left + across).long().flatten()
                        share = (row_sign * column_sign * row_share * column_share).flatten()
                        sums.index_add_(1, at, colours * share)
                        weights.index_add_(0, at, weight.flatten() * share)
        means = (sums.view(3, -1, stride), weights.view(1, -1, stride))
        colour, total = (one.cumsum(-1).cumsum(-2)[:, pad : pad + height, pad : pad + width] for one in means)
        views.append((colour / total.clamp(min=1e-8)).float())
    return views


def rectangles_by_a_loop_over_pixels(image, blur, rows):
    """Every pixel of the first rows painted by itself, in NumPy: by the definition of the mode."""
    colours, radius = image[0].double().numpy(), blur[0, 0].double().numpy()
    _, height, width = colours.shape
    sums, weights = np.zeros((2, 3, height, width)), np.zeros((2, height, width))

    def overlap(first, last, size):
        start, stop = max(0, math.floor(first)), min(size, math.ceil(last))
        pixel = np.arange(start, stop)
        return slice(start, stop), np.minimum(last, pixel + 1) - np.maximum(first, pixel)

    for y in range(rows):
        for x in range(width):
            r = radius[y, x]
            extent = abs(r)
            down, tall = overlap(y - extent, y + 1 + extent, height)
            weight = 1 / ((1 + extent) * (1 + 2 * extent))
            for view, (far, near) in enumerate(((min(r, 0), max(r, 0)), (-max(r, 0), -min(r, 0)))):
                across, wide = overlap(x + far, x + 1 + near, width)
                share = weight * tall[:, None] * wide
                weights[view, down, across] += share
                sums[view, :, down, across] += share * colours[:, y, x, None, None]
    return sums / np.maximum(weights, 1e-8)[:, None]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_rate_of_the_rectangle(height, width):
    image, blur = scene(height, width, 12.0)
    leaves = image.clone().requires_grad_(), blur.clone().requires_grad_()
    upstream = torch.rand(2, *image.shape)

    def forward_and_backward():
        left, right = render(*leaves)
        torch.autograd.grad((left, right), leaves, (upstream[0], upstream[1]))

    small, large = scene(height, width, 6.0), scene(height, width, 24.0)
    times = process_seconds(
        {
            "rect": lambda: render(image, blur),
            "16-layer FFT, float32": lambda: half_discs_by_fourier_transforms(image, blur),
            "64 scatters": lambda: rectangles_by_64_scatters(image, blur),
            "image copy": image.clone,
            "forward and backward": forward_and_backward,
            "radius 6": lambda: render(*small, maximum_radius=24),
            "radius 24": lambda: render(*large, maximum_radius=24),
        }
    )
    rows = 48  # of the loop; the rest would take as long for each
    start = time.process_time()
    rectangles_by_a_loop_over_pixels(image, blur, rows)
    times["loop over pixels"] = (time.process_time() - start) * height / rows
    ratios = {name: seconds / times["rect"] for name, seconds in times.items()}
    print(f"\n| {height}x{width} pair, one thread | CPU seconds | times rect |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {seconds:.4f} | {ratios[name]:.2f} |")
    print(f"| radius 24 against 6 | | {times['radius 24'] / times['radius 6']:.2f} |")
    assert ratios["16-layer FFT, float32"] >= 3
    assert ratios["loop over pixels"] >= 50
    assert times["radius 24"] / times["radius 6"] <= 1.2
    # reading a rectangle takes as many accesses as drawing it, and more arithmetic: 24 impulses a pixel and channel
    assert ratios["forward and backward"] <= 2.8
    # the tables of the small picture fit in the third-level cache, where scattering everything costs least
    assert ratios["64 scatters"] >= (3.5 if height > 1000 else 2.2)


def test_what_is_compared_is_the_same_picture():
    image, blur = scene(40, 56, 5.0)
    ours = render(image, blur)
    loop = torch.from_numpy(rectangles_by_a_loop_over_pixels(image, blur, 40))
    for view, scattered, looped in zip(ours, rectangles_by_64_scatters(image, blur), loop, strict=True):
        assert torch.allclose(view, scattered, rtol=0, atol=1e-6)
        assert torch.allclose(view[0].double(), looped, rtol=0, atol=1e-6)
    for view, layered in zip(ours, half_discs_by_fourier_transforms(image, blur), strict=True):
        assert (view - layered).abs().mean() < 0.05  # another point spread function: alike, not equal


@pytest.mark.gpu
def test_time_on_a_gpu():
    image, blur = (one.expand(10, -1, -1, -1).cuda() for one in scene(192, 192, 12.0))
    leaves = image.clone().requires_grad_(), blur.clone().requires_grad_()
    upstream = torch.rand_like(image)

    def forward_and_backward():
        torch.autograd.grad(render(*leaves), leaves, (upstream, upstream))

    def milliseconds(side):
        times = []
        for _ in range(20):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            side()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        return sorted(times)[len(times) // 2]

    forward, both = milliseconds(lambda: render(image, blur)), milliseconds(forward_and_backward)
    print(
        f"\n| 10 crops 192x192, {torch.cuda.get_device_name()} | forward {forward:.1f} ms | with backward {both:.1f} ms |"
    )
    assert forward <= 20 and both <= 60
