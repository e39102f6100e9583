"""Where the regions in focus of a split come from: labels, a known blur, or the sharp image."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.protocol import Protocol
from dualpixel.evaluate.sharp_regions import regions
from dualpixel.files import sha256

Source = Literal["auto", "masks", "blur", "target"]


class InFocusRegions:
    """Finds regions by one way for all images of a split.

    Args:
        source: see `dualpixel.evaluate.sharp_regions.analysis.SharpRegions`.
        masks: folder of masks.

    Raises:
        DualPixelError: no such folder, or masks that `source` does not go with.
    """

    def __init__(self, source: Source = "auto", masks: Path | None = None) -> None:
        self.source, self.masks = source, masks
        if masks is not None and not masks.is_dir():
            raise DualPixelError(f"--sharp_regions.masks {masks}: no such folder")
        if source != "auto" and (source == "masks") != (masks is not None):
            given = f"masks are {'not ' if masks is None else ''}given"
            raise DualPixelError(f"--sharp_regions.source {source}, but {given}: masks go with source masks or auto")

    def choose(self, fields: Sequence[str], protocol: Protocol) -> str:
        """Return the source that is taken.

        Args:
            fields: what the data set has.
            protocol: of the test.

        Raises:
            DualPixelError: the blur is asked for, and there is none.
        """
        blur = "blur" in fields and not protocol.halved  # halved batches have no maps
        if self.source == "blur" and not blur:
            said = "halves images and leaves the blur out" if protocol.halved else "is for data without blur"
            raise DualPixelError(
                f"--sharp_regions.source blur: protocol {protocol.id} {said}; choose target, or give masks"
            )
        if self.source != "auto":
            return self.source
        return "masks" if self.masks else "blur" if blur else "target"

    def describe(self, source: str, keys: Sequence[str]) -> tuple[dict[str, Any], str]:
        """Say how regions are found.

        Args:
            source: that `choose` returned.
            keys: of all images.

        Returns:
            By numbers: two ways that are described alike find the same. And in words.

        Raises:
            DualPixelError: an image has no mask.
        """
        if source == "blur":
            radius = regions.LARGEST_RADIUS
            return {"source": source, "largest_radius": radius}, f"blur radius of at most {radius:g} px"
        if source == "target":
            window, agreement = regions.WINDOW, regions.AGREEMENT
            numbers = {"window": window, "agreement": agreement, "texture": regions.TEXTURE}
            words = f"textured, and input agrees with target to {100 * agreement:g} % in {window} x {window} pixels"
            return {"source": source, **numbers}, words
        paths = [self._mask(key) for key in keys]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DualPixelError(
                f"--sharp_regions.masks {self.masks}: {len(missing)} of {len(paths)} masks are missing, the first {missing[0]}; "
                "each image of the split needs KEY.png, black where nothing is in focus"
            )
        together = hashlib.sha256("".join(sha256(path) for path in paths).encode()).hexdigest()
        return {"source": source, "masks_sha256": together}, f"masks of {self.masks.name}"

    def find(self, source: str, batch: Mapping[str, Any], blurry: Tensor) -> Tensor:
        """Find the regions of one batch.

        Args:
            source: that `choose` returned.
            batch: as the protocol makes it.
            blurry: (B, 3, H, W), its input (`regions.blurry_image`), on any device.

        Returns:
            (B, H, W) of bool, there.

        Raises:
            DualPixelError: a mask is of another size.
        """
        if source == "blur":
            return regions.in_focus_by_blur(batch["blur"].to(blurry.device))
        if source == "target":
            return regions.in_focus_by_target(blurry, batch["sharp"].to(blurry.device))
        masks = [regions.in_focus_by_mask(self._mask(key), *blurry.shape[-2:]) for key in batch["key"]]
        return torch.stack(masks).to(blurry.device)

    def _mask(self, key: str) -> Path:
        return self.masks / f"{key}.png"
