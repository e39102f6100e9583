"""What the alignment inside a network does to the images that are predicted: recorded by hooks, drawn as one sheet an image."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dualpixel.blocks.correlation import Correlation
from dualpixel.blocks.deformable import ModulatedDeformableConvolution
from dualpixel.blocks.sharp_region import SharpRegionPreservation
from dualpixel.blocks.views import BothViews
from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.errors import DualPixelError
from dualpixel.running.alignment_sheet import AlignmentLevel, BestMatches, ViewOffsets, draw_alignment_sheet
from dualpixel.running.folder import InRunFolder

VIEWS = ("left", "right")
SHARED = "both"
"""Name of the module in a `BothViews` that takes the two views as one batch."""


class AlignmentRecorder:
    """Listens to every `ModulatedDeformableConvolution` and `Correlation` of a network while it runs.

    Left out are those of `SharpRegionPreservation`, which do not compare views; `test` draws them (`SharpRegions`).

    A level is the module that holds them, so that a cost volume stands beside the offsets estimated from it. Which view
    a convolution belongs to is told by the `BothViews` it lies in, else by the end of its name (``deform_left``). One
    that `BothViews` shares takes both views as one batch, which is cut in two again. One whose name says nothing keeps
    that name, and the second one of a view in one module is a level of its own. Of a module that is called more than
    once the last call counts.

    Args:
        net: any network.

    Raises:
        DualPixelError: it has none of these modules.
    """

    def __init__(self, net: nn.Module) -> None:
        alike = {one.similarity for one in net.modules() if isinstance(one, SharpRegionPreservation)}
        self._modules = {
            name: module
            for name, module in net.named_modules()
            if isinstance(module, ModulatedDeformableConvolution | Correlation) and module not in alike
        }
        if not self._modules:
            raise DualPixelError(
                f"--inspect: {type(net).__name__} has no alignment to draw: no ModulatedDeformableConvolution and no "
                "Correlation is in it; leave the option out, or take a network that aligns its views, such as DPANet"
            )
        self._places: dict[str, tuple[str, str]] = {}
        for name in self._modules:
            path, view = _without_view(net, name)
            holder = path.rpartition(".")[0] or type(net).__name__
            taken = (holder, view) in self._places.values()
            self._places[name] = (path if taken else holder, view)
        self._offsets: dict[str, dict[str, tuple[Tensor, Tensor, Tensor]]] = {}
        self._matches: dict[str, tuple[Tensor, Tensor, int]] = {}
        self._hooks: list[RemovableHandle] = []

    def attach(self) -> None:
        """Begin to listen."""
        for name, module in self._modules.items():
            record = self._record_matches if isinstance(module, Correlation) else self._record_offsets
            self._hooks.append(module.register_forward_hook(partial(record, name)))

    def remove(self) -> None:
        """Stop listening."""
        while self._hooks:
            self._hooks.pop().remove()

    def levels(self, row: int) -> list[AlignmentLevel]:
        """Return what the last call of the network did to one image of its batch.

        Args:
            row: which image.

        Returns:
            The levels that were called, in the order of the network's modules.
        """
        levels: dict[str, AlignmentLevel] = {}
        for name, (title, _) in self._places.items():
            level = levels.setdefault(title, AlignmentLevel(title))
            for view, means in self._offsets.get(name, {}).items():
                level.views[view] = ViewOffsets(*(one[row].numpy() for one in means))
            if name in self._matches:
                channel, largest, displacement = self._matches[name]
                dy, dx = np.divmod(channel[row].numpy(), 2 * displacement + 1)
                level.matches = BestMatches(dx - displacement, dy - displacement, largest[row].numpy(), displacement)
        return [level for level in levels.values() if level.views or level.matches]

    def _record_offsets(
        self, name: str, module: ModulatedDeformableConvolution, given: tuple[Tensor, Tensor], result: Tensor
    ) -> None:
        taps = module.kernel_size**2
        offsets, modulation = given[1].detach().float().split((2 * taps, taps), dim=1)
        offsets = offsets.unflatten(1, (taps, 2)).mean(1)
        means = [one.cpu() for one in (offsets[:, 1], offsets[:, 0], modulation.sigmoid().mean(1))]
        _, view = self._places[name]
        if view == SHARED:
            halves = zip(*(one.chunk(2) for one in means), strict=True)
            self._offsets[name] = dict(zip(VIEWS, halves, strict=True))
        else:
            self._offsets[name] = {view: tuple(means)}

    def _record_matches(self, name: str, module: Correlation, given: tuple[Tensor, Tensor], result: Tensor) -> None:
        largest, channel = result.detach().float().max(dim=1)
        self._matches[name] = (channel.cpu(), largest.cpu(), module.displacement)


def _without_view(net: nn.Module, name: str) -> tuple[str, str]:
    """Return a module's name as it would be without a `BothViews`, and its view."""
    parts = name.split(".")
    for position in reversed(range(len(parts))):
        if isinstance(net.get_submodule(".".join(parts[:position])), BothViews):
            view = parts.pop(position)
            break
    else:
        view = next((one for one in VIEWS if parts[-1].endswith(one)), parts[-1])
    return ".".join(parts), view


class Inspect(InRunFolder):
    """Draws ``inspect/NAME.png`` in the run's folder for each image, while `predict` runs; see `draw_alignment_sheet`.

    Args:
        enabled: whether it does. On the command line of `predict` plain ``--inspect`` is enough.
    """

    def __init__(self, enabled: bool = False) -> None:
        super().__init__()
        self.enabled = enabled
        self._recorder: AlignmentRecorder | None = None

    def target_folder(self) -> Path:
        """Return the folder written to."""
        return self.folder / "inspect"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look for what can be drawn.

        Raises:
            DualPixelError: there is nothing in the network.
        """
        super().setup(trainer, pl_module, stage)
        if self.enabled and stage == "predict":
            self._recorder = AlignmentRecorder(pl_module.net)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen."""
        if self._recorder:
            self._recorder.attach()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the images of one batch."""
        for row, key in enumerate(batch["key"] if self._recorder else ()):
            if int(batch["index"][row]) == NOT_COUNTED:
                continue
            images = {name: batch[name][row] for name in (*VIEWS, "combined") if name in batch}
            images["output"] = outputs["sharp"][row]
            shown = {name: image.float().clamp(0, 1).permute(1, 2, 0).cpu().numpy() for name, image in images.items()}
            draw_alignment_sheet(self.target_folder() / f"{key}.png", key, shown, self._recorder.levels(row))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop listening."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        self._stop()

    def _stop(self) -> None:
        if self._recorder:
            self._recorder.remove()
