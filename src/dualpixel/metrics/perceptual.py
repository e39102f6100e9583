"""LPIPS with AlexNet, version 0.1 (Zhang et al., CVPR 2018), through the package of its authors.

Their package carries the calibrated linear layers; the AlexNet backbone is torchvision's and is looked for at first
use.
"""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from dualpixel.metrics.functional import comparable

BACKBONE_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
BACKBONE_HASH = "7be5be79"
SMALLEST_SIDE = 31
SOCKET_TIMEOUT_S = 10.0


class PerceptualDistance(nn.Module):
    """LPIPS of each image: lower is more alike, 0 for identical images.

    The published tables of the dual-pixel papers use this backbone with inputs in [-1, 1]. Images are taken one after
    the other, so that a score does not depend on the batch it came in, and memory is that of one image. The module is
    always in evaluation mode (the linear layers hold dropout) and its weights never ask for gradients; gradients do
    flow to the images.

    Args:
        backbone: AlexNet's `features.{0,3,6,8,10}.{weight,bias}` with torchvision's names and layout; other keys are
            ignored.

    Raises:
        ValueError: a weight is missing or has another shape.
    """

    def __init__(self, backbone: dict[str, Tensor]) -> None:
        super().__init__()
        import lpips

        # Built this way nothing is downloaded; each of the random weights is replaced below.
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore", UserWarning)
            network = lpips.LPIPS(net="alex", version="0.1", pretrained=False, pnet_rand=True, verbose=False)
        linear_file = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
        linear = torch.load(linear_file, map_location="cpu", weights_only=True)
        # The package cuts AlexNet into slices: its "slice2.3.weight" is torchvision's "features.3.weight".
        layers = [name.split(".", maxsplit=1) for name in network.net.state_dict()]
        try:
            network.net.load_state_dict({f"{part}.{layer}": backbone[f"features.{layer}"] for part, layer in layers})
            network.lins.load_state_dict({name.removeprefix("lin"): value for name, value in linear.items()})
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"these are not the AlexNet weights of torchvision: {error}") from None
        self.network = network.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stay in evaluation mode, whatever the parent module asks for."""
        return super().train(False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare images.

        Args:
            prediction: (B, 3, H, W) RGB in [0, 1], H and W at least 31.
            target: the same shape and range.

        Returns:
            (B,) float64; computed in float32.

        Raises:
            ValueError: the shapes differ or are not (B, 3, H, W), or the images are too small for AlexNet.
        """
        prediction, target = comparable(prediction, target)
        _, channels, height, width = prediction.shape
        if channels != 3 or min(height, width) < SMALLEST_SIDE:
            raise ValueError(
                f"LPIPS takes RGB images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels, "
                f"not {channels} x {height} x {width}"
            )
        with torch.autocast(prediction.device.type, enabled=False):
            pairs = zip(prediction.float().split(1), target.float().split(1), strict=True)
            return torch.cat([self.network(image, truth, normalize=True).flatten() for image, truth in pairs]).double()


def load_perceptual(path: Path | None = None, download: bool = True) -> PerceptualDistance | None:
    """Build LPIPS from the first backbone weights that are found; never with random ones.

    Looked for in this order: `path`; the file named by the environment variable DUALPIXEL_LPIPS; the cache of torch
    hub; torchvision's server, hash checked, unless `download` is off or DUALPIXEL_OFFLINE is set. Nothing in a file
    is executed.

    Args:
        path: .npz, .safetensors or torchvision's .pth.
        download: whether torchvision's server may be asked.

    Returns:
        The module, or None when there are no weights: one warning per process then says how to get them.

    Raises:
        ValueError: a file was named (or lies in the cache) but is missing, of another kind, broken, or holds no
            AlexNet.
    """
    named = path or os.environ.get("DUALPIXEL_LPIPS") or None
    cached = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_URL.rpartition("/")[2]
    if named is None and not cached.is_file():
        if not download or os.environ.get("DUALPIXEL_OFFLINE"):
            trouble: str | None = "no download asked for" if not download else "DUALPIXEL_OFFLINE is set"
        else:
            trouble = _fetch(cached)
        if trouble is not None:
            _tell_once(
                f"LPIPS is left out: no AlexNet weights ({trouble}). Put {BACKBONE_URL} at {cached}, "
                "or name a .npz, .pth or .safetensors file by DUALPIXEL_LPIPS."
            )
            return None
    file = Path(named or cached)
    weights = _read_weights(file)
    try:
        return PerceptualDistance(weights)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _read_weights(file: Path) -> dict[str, Tensor]:
    """Read a weight file without executing anything in it."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file; LPIPS wants the AlexNet weights as .npz, .pth or .safetensors")
    try:
        if file.suffix == ".npz":
            import numpy as np

            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        if file.suffix in (".pth", ".pt"):
            return dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # each format has its own errors for a broken file
        raise ValueError(
            f"{file}: cannot be read as weights ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    raise ValueError(f"{file}: the ending {file.suffix!r} is unknown; allowed: .npz, .pth, .pt, .safetensors")


@cache
def _fetch(place: Path) -> str | None:
    """Download the backbone to `place`, once per process; return what went wrong, None when all is well."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(SOCKET_TIMEOUT_S):
            torch.hub.download_url_to_file(BACKBONE_URL, str(place), hash_prefix=BACKBONE_HASH, progress=False)
    except (OSError, RuntimeError) as error:
        return f"download failed: {error}"
    return None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Give new sockets a time limit: behind a firewall that drops packets torch's download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@cache
def _tell_once(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
