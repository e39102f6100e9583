"""The published checkpoints of DDDNet (PyTorch) -> ours.

Source: https://github.com/panpanfei/Dual-Pixel-Exploration-Simultaneous-Depth-Estimation-and-Image-Restoration: two models,
one trained on DDD-syn and one on DPD-blur, each of two files, Estd.pkl (DepthNet) and Esti.pkl (DeblurNet): plain state
dicts of networks inside a data-parallel wrapper. Nothing in a file tells which of the two models it belongs to, so that there
is one function for each, by the name of the recipe.
"""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.files import sha256
from dualpixel.nets.dddnet import DDDNet
from dualpixel.weights.convert_k3dn import our_name as our_name_in_k3dn
from dualpixel.weights.files import read_checkpoint

WRAPPER = "module."
"""What the data-parallel wrapper puts before every name."""

UNUSED = re.compile(
    r"features\.|matching\.(conv2a|conv3a|deconv3a|deconv2a)\.|(feature|matching)\.end\.1\.bn\.|conv\.conv\."
)
"""How the names of layers begin that the authors' networks have and never call."""

FIRST = {"Estd.pkl": "feature.start.0.conv.weight", "Esti.pkl": "encoder1.layer1.weight"}
"""The authors' file -> its first layer."""

LAYERS = (1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 16, 17, 18, 20, 21, 22, 24)
"""The authors' numbers of the nine layers of an encoder and the nine of a decoder, in the order of ours."""

DECODERS = {"decoder1": "image", "decoderd": "depth", "decoder2": "dec2", "decoder3": "dec3"}

RENAMED = (
    (r"^matching\.start\.", "depth.matching.start."),
    (r"^matching\.conv1a\.", "depth.matching.down."),
    (r"^matching\.deconv1a\.conv1\.", "depth.matching.up."),
    (r"^matching\.deconv1a\.conv2\.", "depth.matching.fuse."),
    (r"^matching\.end\.0\.conv\.", "depth.matching.enlarge.0."),
    (r"^matching\.end\.0\.bn\.", "depth.matching.enlarge.1."),
    (r"^matching\.end\.1\.conv\.", "depth.matching.out."),
    (r"\.bn\.", ".norm."),
    (r"^(encoder[123]|decoder[123d])\.layer(\d+)\.0\.", r"\1.layer\2.conv1."),
    (r"^(encoder[123]|decoder[123d])\.layer(\d+)\.2\.", r"\1.layer\2.conv2."),
    (
        rf"^(encoder[123]|decoder[123d])\.layer({'|'.join(map(str, LAYERS))})\.",
        lambda found: f"{found[1]}.{LAYERS.index(int(found[2])) % 9}.",
    ),
    (r"^encoder([123])\.", r"deblur.enc\1."),
    (r"^(decoder[123d])\.", lambda found: f"deblur.{DECODERS[found[1]]}."),
    (r"^down\.conv\.", "deblur.difference."),
    (r"^cam_attention\.", "deblur.attention."),
)
"""Patterns of the authors' names and what they become, all applied in this order."""


def our_name(published: str) -> str:
    """Return our name of a parameter that the authors call `published` (without the wrapper's prefix).

    >>> our_name("decoderd.layer22.2.weight")
    'deblur.depth.7.conv2.weight'
    >>> our_name("feature.branch3.1.0.weight")
    'depth.features.fine.conv.weight'
    """
    if published.startswith("feature."):  # K3DN has this extractor, under the same names, as a part of "disp"
        return our_name_in_k3dn(f"disp.{published}").replace("estimator.", "depth.", 1)
    for pattern, replacement in RENAMED:
        published = re.sub(pattern, replacement, published)
    return published


def convert_dddnet(estd: Path, esti: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert the two files of the model for DPD-blur; nothing in them is executed. The authors' network takes RGB.

    Args:
        estd: the file of the DepthNet, Estd.pkl.
        esti: the file of the DeblurNet, Esti.pkl.

    Returns:
        State dict of `dualpixel.nets.dddnet.DDDNet`, and metadata. Layers that the authors never call are left out.

    Raises:
        DualPixelError: a file cannot be read or holds another network.
    """
    return _convert(estd, esti, "dddnet")


def convert_dddnet_syn(estd: Path, esti: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert the two files of the model for DDD-syn. See `convert_dddnet`."""
    return _convert(estd, esti, "dddnet_syn")


def _convert(estd: Path, esti: Path, recipe: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    published = {**_read(estd, "Estd.pkl"), **_read(esti, "Esti.pkl")}
    state_dict = {our_name(name): tensor for name, tensor in published.items() if not UNUSED.match(name)}
    with torch.device("meta"):
        options = DDDNet().options
    metadata = {
        "recipe": recipe,
        "net": "DDDNet",
        "options": json.dumps(options),
        "channel_order": "RGB",
        "source": f"{Path(estd).name}, {Path(esti).name}",
        "source_sha256": f"{sha256(estd)}, {sha256(esti)}",
    }
    return state_dict, metadata


def _read(source: Path, wanted: str) -> dict[str, Tensor]:
    """Read the state dict of one of the two files."""
    content = read_checkpoint(source)
    if not isinstance(content, dict) or not all(isinstance(one, Tensor) for one in content.values()):
        found = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        raise DualPixelError(f"{source}: no state dict of tensors, found {found}; give the authors' {wanted} of DDDNet")
    published = {name.removeprefix(WRAPPER): tensor for name, tensor in content.items()}
    if FIRST[wanted] not in published:
        other = next((file for file, first in FIRST.items() if first in published), None)
        if other:
            raise DualPixelError(
                f"{source}: this is an {other}, needed is {wanted}: give Estd.pkl first, then Esti.pkl"
            )
        raise DualPixelError(
            f"{source}: no {FIRST[wanted]} of DDDNet's {wanted}, found {', '.join(list(content)[:3]) or 'nothing'}: "
            "is this another network?"
        )
    return published
