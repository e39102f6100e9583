"""Images resized for the network and its output resized back: what some authors' programs do around a network of one size.

Both ways are the cubic convolution with a = -3/4 at pixel centres, border pixels repeated, without averaging where it shrinks;
OpenCV's bicubic and torch's are that same function.
"""

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from dualpixel.data.fields import IMAGES
from dualpixel.evaluate.quantise import STORED_BITS


def enlarge_as_stored(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize 16-bit values as OpenCV resizes the integers of a file: bicubically, rounded, and clipped to 0 ... 65535.

    Args:
        image: (B, C, H, W) in [0, 1], v / 65535 for a stored value v; other values go to the nearest of them first.
        size: (height, width) of the result.

    Returns:
        (B, C, height, width), of the type and on the device of `image`: whole steps of 1 / 65535.

    Differences: positions are float64 here. OpenCV has two ways: its build for x86 processors with Intel's library gives what
    this gives, but for 1 step in about 0.2 % of the values, where a sum lies between two; its own code has float32 positions,
    which is up to 6 steps off on noise.
    """
    steps = 2**STORED_BITS - 1
    place = "cpu" if image.device.type == "mps" else image.device  # Apple's GPUs have no float64
    values = (image.to(place).clamp(0, 1) * steps).round().double()
    resized = functional.interpolate(values, size=size, mode="bicubic", align_corners=False)
    return (resized.round().clamp(0, steps) / steps).to(image)


def back_to(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an output bicubically to the size of its target, and clip it to [0, 1]; nothing is rounded.

    Args:
        image: (B, C, H, W).
        size: (height, width) of the result.

    Returns:
        (B, C, height, width), the same type.
    """
    return functional.interpolate(image, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def run_resized(recipe: nn.Module, size: tuple[int, int]) -> list[RemovableHandle]:
    """Let a recipe see all images of its batches at one size, and have its predictions at the size of the batch's images.

    The batch itself stays as it is: the recipe is handed a resized copy, in which ``sharp`` is not resized.

    Args:
        recipe: called with a batch that has images, all of one size; returns a prediction, name -> value.
        size: (height, width) that it sees. Of its prediction, images (B, 3, height, width) are brought back; all else, as
            maps and lists, is handed on as it is.

    Returns:
        The hooks: as long as they are not removed, every call is made so.
    """
    whole: tuple[int, ...] = ()

    def before(_: nn.Module, arguments: tuple) -> tuple:
        nonlocal whole
        batch, *others = arguments
        whole = next(batch[name] for name in IMAGES if name in batch).shape[-2:]
        images = {name: batch[name] for name in IMAGES if name != "sharp" and name in batch}
        return {**batch, **{name: enlarge_as_stored(image, size) for name, image in images.items()}}, *others

    def after(_: nn.Module, arguments: tuple, prediction: dict) -> dict:
        def restore(value: object) -> object:
            seen = isinstance(value, Tensor) and value.ndim == 4 and tuple(value.shape[1:]) == (3, *size)
            return back_to(value, whole) if seen else value

        return {name: restore(value) for name, value in prediction.items()}

    return [recipe.register_forward_pre_hook(before), recipe.register_forward_hook(after)]
