"""Weight files: safetensors with metadata, written whole or not at all; Lightning checkpoints are read too."""

import hashlib
import json
import pickle
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dualpixel.errors import DualPixelError
from dualpixel.files import atomic

NETWORK = "net."
"""What a recipe calls its network; checkpoints put it before every name."""

METADATA = "dualpixel_metadata"
"""Key of a Lightning checkpoint under which the same metadata may stand as in a safetensors file."""


def save_weights(path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights as safetensors, atomically.

    Args:
        path: the file.
        state_dict: name -> tensor, on any device, in any memory format.
        metadata: what the weights are for, text only; stored in the header.
    """
    # clones: safetensors refuses tensors that share memory
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state_dict.items()
    }
    with atomic(Path(path)) as beside:
        save_file(tensors, beside, dict(metadata))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file or a Lightning checkpoint; which of the two is told by the content, not by the name.

    Nothing in the file is executed. Of a checkpoint only the network's weights are taken, without their leading
    ``net.``; a plain state dict written by `torch.save` is read as well.

    Args:
        path: the file.

    Returns:
        State dict (on the CPU) and metadata; a checkpoint may have no metadata.

    Raises:
        DualPixelError: no such file, no weights file, or a truncated one.
    """
    path = Path(path)
    if not path.is_file():
        raise DualPixelError(f"{path}: no such file; give a .safetensors file or a .ckpt file")
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        return _load_checkpoint(path)
    if head.startswith(b"\x89HDF"):
        raise DualPixelError(
            f"{path}: a Keras file; convert it first: dualpixel convert RECIPE --source {path} --out OUT"
        )
    if head[8:9] != b"{":
        raise DualPixelError(f"{path}: not a weights file; give a .safetensors file or a .ckpt file")
    try:
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except SafetensorError as error:
        raise DualPixelError(f"{path}: truncated or damaged ({error}); copy or convert it again") from None


def read_checkpoint(path: Path) -> Any:
    """Read what `torch.save` wrote, of plain tensors, numbers, text and containers only; nothing is executed.

    Args:
        path: the file, of any version of torch; tensors are mapped where it allows, so that what is not looked at is
            never read.

    Returns:
        The object that was saved, with its tensors on the CPU.

    Raises:
        DualPixelError: no such file, a truncated or foreign one, or one that holds other Python objects.
    """
    path = Path(path)
    if not path.is_file():
        raise DualPixelError(f"{path}: no such file; give a file that torch.save wrote (.pth, .pt or .ckpt)")
    with path.open("rb") as file:
        old = file.read(1) == b"\x80"  # a bare pickle, as torch wrote before 1.6: it can neither be mapped nor searched
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=not old)
    except pickle.UnpicklingError:
        unsafe = () if old else torch.serialization.get_unsafe_globals_in_checkpoint(path)
        objects = ", ".join(unsafe) or "unknown"
        raise DualPixelError(
            f"{path}: holds Python objects that could execute code when loaded ({objects}); "
            "save it again with plain tensors, numbers and text only"
        ) from None
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError and others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DualPixelError(f"{path}: truncated, damaged or no checkpoint ({reason}); copy it again") from None


def _load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    content: Any = read_checkpoint(path)
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not tensors or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise DualPixelError(
            f"{path}: a PyTorch file without a state dict; give a Lightning checkpoint or a state dict"
        )
    network = {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}
    return network or dict(tensors), dict(content.get(METADATA, {}))


def weights_hash(state_dict: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values, in the order of the names.

    It depends on the weights alone: not on the device, the memory format, the order or the file format.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_channels(metadata: Mapping[str, str], source: str | Path) -> None:
    """Refuse weights that were converted in the authors' order of channels: recipes hand RGB to their networks.

    Raises:
        DualPixelError: the weights take BGR.
    """
    if metadata.get("channel_order", "RGB") != "RGB":
        raise DualPixelError(
            f"{source}: these weights take {metadata['channel_order']}; convert the authors' file again, to RGB"
        )


def check_fit(
    module: nn.Module, state_dict: Mapping[str, Tensor], source: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Check that the weights are exactly those that the network has, by name and shape, and mean the same in it.

    Args:
        module: the network; it may be on the meta device. Of its ``options``, those of ``silent_options`` are compared with
            the file's: they change what the network computes, and neither name nor shape of a weight. All others may differ.
        state_dict: the weights.
        source: where they come from, for the message.
        metadata: what the file says about itself; without ``options`` nothing is known of them, and none is compared.

    Raises:
        DualPixelError: names are missing or unexpected, or shapes differ; the first of each is listed. Or the options do.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state_dict]
    unexpected = [name for name in state_dict if name not in wanted]
    misshaped = [
        f"{name} {tuple(state_dict[name].shape)} (the network has {tuple(tensor.shape)})"
        for name, tensor in wanted.items()
        if name in state_dict and state_dict[name].shape != tensor.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    faults = [
        f"{kind}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for kind, names in kinds.items()
        if names
    ]
    if faults:
        says = ", ".join(f"{key} {metadata[key]}" for key in ("recipe", "net", "options") if key in (metadata or {}))
        raise DualPixelError(
            f"{source}: these weights do not fit {type(module).__name__}: {'; '.join(faults)}\n"
            f"The file says it is for {says or 'nothing in particular'}; "
            "use that recipe with those options, or the right file."
        )
    stored, options = stored_options(metadata or {}, source), getattr(module, "options", {})
    others = [
        name for name in getattr(module, "silent_options", ()) if name in stored and stored[name] != options[name]
    ]
    if others:
        found = "; ".join(
            f"{name} is {json.dumps(options[name])}, theirs {json.dumps(stored[name])}" for name in others
        )
        given = " ".join(f"--model.net.{name} {shlex.quote(json.dumps(stored[name]))}" for name in others)
        raise DualPixelError(
            f"{source}: these weights are of {type(module).__name__} with other options, and would compute nonsense: {found}\n"
            f"Give {given}, or the configuration that they were trained with."
        )


def stored_options(metadata: Mapping[str, str], source: str | Path) -> dict[str, Any]:
    """Read a network's options out of what a weights file says about itself.

    Args:
        metadata: of the file.
        source: its name, for the message.

    Returns:
        The options; empty where the file names none.

    Raises:
        DualPixelError: they are not plain values: a class named there would be imported.
    """
    try:
        options = json.loads(metadata.get("options", "{}"))
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(map(_is_plain, options.values())):
        raise DualPixelError(f"{source}: its options are not plain values; get the file again from where you trust it")
    return options


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | None) or (
        isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    )


def load_into(
    module: nn.Module, state_dict: Mapping[str, Tensor], source: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Load weights into a network, all of them or none.

    Args:
        module: the network.
        state_dict: the weights.
        source: where they come from, for the message.
        metadata: what the file says about itself, see `check_fit`.

    Raises:
        DualPixelError: the weights do not fit; the network is then left as it was.
    """
    check_fit(module, state_dict, source, metadata)
    module.load_state_dict(state_dict, strict=True)
