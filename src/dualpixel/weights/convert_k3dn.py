"""The published checkpoint of K3DN (PyTorch) -> ours.

Source: https://github.com/cjsj166/k3dn: a plain state dict of the Large network with its SRP blocks. Files of the other
sizes, without SRP blocks, for one image, or in the form for inference, as the authors' program would write them, are told
by their names and shapes.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.files import sha256
from dualpixel.nets.k3dn import K3DN, recipe_name
from dualpixel.weights.files import read_checkpoint

FIRST = "feat_extract.0.main.0.weight"
"""The authors' name of the first convolution."""

RENAMED = (
    (r"^Encoder\.(\d)\.layers\.", r"enc.\1."),
    (r"^Decoder\.(\d)\.layers\.", r"dec.\1."),
    (r"^feat_extract\.([012])\.main\.0\.", r"down.\1.0."),
    (r"^feat_extract\.([345])\.main\.0\.", lambda found: f"up.{int(found[1]) - 3}.0."),
    (r"^out\.main\.0\.", "out."),
    (r"\.main\.0\.main\.0\.", ".conv1."),
    (r"\.main\.1\.main\.0\.", ".conv2."),
    (r"^disp\.model\.", "estimator.features."),
    (r"^disp\.feature\.start\.", "estimator.features.start."),
    (r"^disp\.feature\.layer1\.", "estimator.features.wide."),
    (r"^disp\.feature\.branch1\.1\.0\.", "estimator.features.coarse.conv."),
    (r"^disp\.feature\.branch1\.1\.1\.", "estimator.features.coarse.norm."),
    (r"^disp\.feature\.branch3\.1\.0\.", "estimator.features.fine.conv."),
    (r"^disp\.feature\.branch3\.1\.1\.", "estimator.features.fine.norm."),
    (r"^disp\.feature\.end\.0\.", "estimator.features.fuse."),
    (r"^disp\.feature\.end\.1\.conv\.", "estimator.features.out."),
    (r"^disp\.matching\.start\.", "estimator.matching."),
    (r"^disp\.matching\.conv1a\.([01])\.", lambda found: f"estimator.matching.{int(found[1]) + 3}."),
    (r"^disp\.fc\.0\.", "estimator.linear."),
    (r"\.bn\.", ".norm."),
    (r"^deblur\.(\d+)\.conv1\.weight$", r"psf.\1.kernels.spectrum"),
    (r"^deblur\.(\d+)\.conv1\.weight_left$", r"psf.\1.kernels.left"),
    (r"^deblur\.(\d+)\.conv2\.modulation\.", r"psf.\1.mixing.gate."),
    (r"^deblur\.(\d+)\.conv2\.log_s$", r"psf.\1.mixing.log_scale"),
    (r"^deblur\.(\d+)\.conv2\.p$", r"psf.\1.mixing.permutation"),
    (r"^deblur\.(\d+)\.conv2\.sign_s$", r"psf.\1.mixing.sign"),
    (r"^deblur\.(\d+)\.conv2\.", r"psf.\1.mixing."),
    (r"^deblur\.(\d+)\.inter\.to_w$", r"psf.\1.query.kernel_weight"),
    (r"^deblur\.(\d+)\.inter\.to_r\.", r"psf.\1.query.to_kernels."),
    (r"^deblur\.(\d+)\.inter\.out\.", r"psf.\1.query.to_style."),
    (r"\.conv_q\.", ".query."),
    (r"\.conv_k\.", ".key."),
    (r"\.conv_v\.", ".value."),
    (r"\.conv_o\.1\.layers\.", ".out.1."),
    (r"\.conv_o\.", ".out."),
)
"""Patterns of the authors' names and what they become, all applied in this order; some of ours have fewer axes of length 1."""


def our_name(published: str) -> str:
    """Return our name of what the authors' state dict calls `published`.

    >>> our_name("deblur.3.inter.to_w")
    'psf.3.query.kernel_weight'
    """
    for pattern, replacement in RENAMED:
        published = re.sub(pattern, replacement, published)
    return published


def convert_k3dn(source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert one published checkpoint; nothing in it is executed. The authors' network takes RGB, as ours does.

    Args:
        source: the file.

    Returns:
        State dict of `dualpixel.nets.k3dn.K3DN`, and metadata.

    Raises:
        DualPixelError: the file cannot be read or holds another network.
    """
    published = read_checkpoint(source)
    if not isinstance(published, dict) or not all(isinstance(one, Tensor) for one in published.values()):
        found = ", ".join(map(str, list(published)[:8])) if isinstance(published, dict) else type(published).__name__
        raise DualPixelError(f"{source}: no state dict of tensors, found {found}; give the authors' best.pt of K3DN")
    if FIRST not in published or published[FIRST].ndim != 4:
        raise DualPixelError(
            f"{source}: no {FIRST} of K3DN, found {', '.join(list(published)[:3]) or 'nothing'}: is this another network?"
        )
    options = options_of(published)
    with torch.device("meta"):
        network = K3DN(**options)
    wanted = network.state_dict()
    state_dict = {}
    for name, tensor in published.items():
        ours = our_name(name)
        same = ours in wanted and _without_ones(wanted[ours].shape) == _without_ones(tensor.shape)
        state_dict[ours] = tensor.reshape(wanted[ours].shape) if same else tensor
    metadata = {
        "recipe": recipe_name(network.options),
        "net": "K3DN",
        "options": json.dumps(network.options),
        "channel_order": "RGB",
        "source": Path(source).name,
        "source_sha256": sha256(source),
    }
    return state_dict, metadata


def options_of(published: dict[str, Tensor]) -> dict[str, Any]:
    """Tell the options of `K3DN` from the names and shapes of a state dict of the authors' program."""

    def count(pattern: str) -> int:
        return len({found[1] for name in published if (found := re.match(pattern, name))})

    channels, images = published[FIRST].shape[:2]
    options = {
        "views": "dual" if images == 6 else "combined",
        "base_channels": channels,
        "residual_blocks": count(r"Encoder\.0\.layers\.(\d+)\."),
        "psf_blocks": count(r"deblur\.(\d+)\."),
        "srp": any(name.startswith("srp.") for name in published),
        "cached": any(name.endswith(".conv1.weight_left") for name in published),
    }
    if options["srp"]:  # a first stage does not say how many its second has
        options["srp_blocks"] = count(r"srp\.0\.conv_o\.1\.layers\.(\d+)\.")
    return options


def _without_ones(shape: torch.Size) -> list[int]:
    return [length for length in shape if length != 1]
