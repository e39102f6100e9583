"""The published checkpoint of DPANet (PyTorch) -> ours.

Source: https://github.com/liyucs/DPANet, file final.pth: a dict with `epoch`, `global_step`, `G_state_dict` (the
network, inside a data-parallel wrapper) and `G_opt` (the optimizer).
"""

import json
import re
from pathlib import Path

import torch
from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.files import sha256
from dualpixel.nets.dpanet import DPANet
from dualpixel.weights.files import read_checkpoint

NETWORK = "G_state_dict"
"""Key of the checkpoint under which the network's weights stand."""

WRAPPER = "module."
"""What the data-parallel wrapper puts before every name."""

RENAMED = (
    (r"^predeblur\.", "extractor.both."),
    (r"\.conv_first\.", ".stem1."),
    (r"\.deblur_L([23])_conv\.", r".stem\1."),
    (r"\.RB_L1_1\.", ".fine.0."),
    (r"\.RB_L1_2\.", ".fine.1."),
    (r"\.RB_L1_3\.", ".fine.2."),
    (r"\.RB_L1_4\.", ".fine.3."),
    (r"\.RB_L1_5\.", ".fine.4."),
    (r"\.RB_L2_1\.", ".middle.0."),
    (r"\.RB_L2_2\.", ".middle.1."),
    (r"\.RB_L3_1\.", ".coarse."),
    (r"^encoder\.encoder(\d)\.block\.block\.", r"enc\1.block.both."),
    (r"^encoder\.encoder(\d)\.offset_l\.offset_conv\.", r"enc\1.alignment.side_left.0."),
    (r"^encoder\.encoder(\d)\.offset_r\.offset_conv\.", r"enc\1.alignment.side_right.0."),
    (r"^encoder\.encoder(\d)\.flow_conv\.", r"enc\1.alignment.embedding."),
    (r"^encoder\.encoder(\d)\.deform\.", r"enc\1.alignment.deform.both."),
    (r"^encoder_5\.block\.", "enc5.both."),
    (r"^up(\d)\.upsample\.up\.1\.", r"dec\1.up."),
    (r"^up(\d)\.offset_l\.", r"dec\1.alignment.side_left.0."),
    (r"^up(\d)\.offset_r\.", r"dec\1.alignment.side_right.0."),
    (r"^up(\d)\.deform_l\.", r"dec\1.alignment.deform_left."),
    (r"^up(\d)\.deform_r\.", r"dec\1.alignment.deform_right."),
    (r"^up(\d)\.cv\.", r"dec\1.block."),
    (r"\.RB_([12])\.", r".residual\1."),
    (r"\.conv_block\.0\.", ".conv."),
)
"""Patterns of the authors' names and what they become, all applied in this order; `out` is called the same."""


def our_name(published: str) -> str:
    """Return our name of a parameter that the authors call `published` (without the wrapper's prefix).

    >>> our_name("up4.cv.RB_1.conv2.weight")
    'dec4.block.residual1.conv2.weight'
    """
    for pattern, replacement in RENAMED:
        published = re.sub(pattern, replacement, published)
    return published


def convert_dpanet(source: Path, *, rgb: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert one published checkpoint; the optimizer's state in it is not read, and nothing in it is executed.

    Args:
        source: the file.
        rgb: the authors' network reads and writes BGR. True permutes the inputs of the first layer and the outputs of
            the last, so that it takes and gives RGB; False keeps the order as stored.

    Returns:
        State dict of `dualpixel.nets.dpanet.DPANet`, and metadata.

    Raises:
        DualPixelError: the file cannot be read or holds another network.
    """
    content = read_checkpoint(source)
    published = content.get(NETWORK) if isinstance(content, dict) else None
    if not isinstance(published, dict) or not all(isinstance(one, Tensor) for one in published.values()):
        found = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        raise DualPixelError(
            f"{source}: no {NETWORK} with tensors, found {found}; give the authors' final.pth of DPANet"
        )
    state_dict = {our_name(name.removeprefix(WRAPPER)): tensor for name, tensor in published.items()}
    first, last = "extractor.both.stem1.weight", ("out.2.weight", "out.2.bias")
    missing = [name for name in (first, *last) if name not in state_dict]
    if missing:
        raise DualPixelError(
            f"{source}: no first or last layer of DPANet ({missing[0]}), "
            f"found {', '.join(list(published)[:3]) or 'nothing'}: is this another network?"
        )
    if rgb:
        for name, dimension in ((first, 1), *((name, 0) for name in last)):
            state_dict[name] = state_dict[name].flip(dimension)
    with torch.device("meta"):
        options = DPANet().options
    metadata = {
        "recipe": "dpanet",
        "net": "DPANet",
        "options": json.dumps(options),
        "channel_order": "RGB" if rgb else "BGR",
        "source": Path(source).name,
        "source_sha256": sha256(source),
    }
    return state_dict, metadata
