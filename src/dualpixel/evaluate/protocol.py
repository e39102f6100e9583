"""What a protocol is made of: what a network sees, and what its outputs are compared with."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

from torch import Tensor

from dualpixel.data.fields import IMAGES, MAPS
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.columns import IMAGE_METRICS, SSIM_WINDOWS
from dualpixel.evaluate.dpd_disp import check_dpd_disp_size, prepare_estimate, prepare_truth
from dualpixel.evaluate.protocol_parts import Inference, Quantisation, Resolution
from dualpixel.evaluate.protocol_words import describe
from dualpixel.evaluate.quantise import STORED_BITS, check_even, drop_low_bits, halve, truncate
from dualpixel.hints import near

STRETCH = 0.08
"""How far the aspect ratio of a scene may be from the one it is resized to. The authors of K3DN stretch 1120 x 1680 by 3.7 %; 8 %
takes other photographs of about 3 : 2, and neither upright ones nor 4 : 3 or 16 : 9."""
ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
"""What ids look like: they become names of folders."""
WORDS_ONLY = ("id", "source", "notes")
"""Keys that change no score."""


@dataclass(frozen=True)
class Protocol:
    """How a prediction is compared with its target. The keys are those of the files in ``protocol_files``, all of which are given.

    Args:
        id: short name, part of every result.
        source: who defined it.
        data_bits: the bits per channel that a data set may have.
        resolution: the size at which images are compared, and how they get there.
        quantisation: to how many bits images are cut.
        border: pixels that are cut off every side of output, target and unprocessed input before they are compared; of predicted blur and
            its truth, too.
        views: "predicted" has the left and the right view replaced by those that another network predicts from the combined image
            (see `dualpixel.evaluate.predicted_views`); "data" leaves those of the data.
        inference: how the network is given the images.
        metrics: the columns of the images, in order; none scores no image.
        ssim: the variant, one of `dualpixel.evaluate.columns.SSIM`; None where it is not among the metrics.
        lpips: the variant, likewise.
        truth: the map of the data that predicted blur is compared with: ``blur`` as it is, by the usual errors of inverse depth;
            ``disparity`` by affine-invariant scores, and both maps go through `dualpixel.evaluate.dpd_disp` first. None for no map.
        notes: what the keys do not say; ends the description.

    Raises:
        ValueError: keys that contradict each other.
    """

    id: str
    source: str
    data_bits: tuple[Literal[8, 16], ...]
    resolution: Resolution
    quantisation: Quantisation
    border: int
    views: Literal["data", "predicted"]
    inference: Inference
    metrics: tuple[str, ...]
    ssim: Literal["uniform7", "gaussian11"] | None
    lpips: Literal["alex-0.1"] | None
    truth: Literal["blur", "disparity"] | None
    notes: str | None

    def __post_init__(self) -> None:
        if not re.fullmatch(ID, self.id):
            raise ValueError(f"the id {self.id!r} is not of letters, digits and . _ -, 40 at most")
        unknown = [name for name in self.metrics if name not in IMAGE_METRICS]
        if unknown:
            raise ValueError(f"no metric {unknown[0]!r}; {near(unknown[0], IMAGE_METRICS)}")
        if len({*self.metrics}) < len(self.metrics) or not (self.metrics or self.truth) or not self.data_bits:
            raise ValueError("metrics, each once, or a truth are needed, and data_bits")
        for name, variant in (("ssim", self.ssim), ("lpips", self.lpips)):
            if (variant is not None) != (name in self.metrics):
                raise ValueError(f"{name} is given where it is among the metrics, and null where it is not")
        if self.border < 0:
            raise ValueError(f"border {self.border}: must be 0 pixels or more")
        if self.truth == "blur" and self.halved:
            raise ValueError("truth blur cannot be compared with images of half the size; take resolution stored")
        if self.truth == "disparity" and (not self.halved or self.border or self.inference.mode != "whole"):
            raise ValueError("truth disparity is compared at half the size, without a border and with whole images")

    @property
    def description(self) -> str:
        """What is compared, in one sentence."""
        return describe(self)

    @property
    def halved(self) -> bool:
        """Whether images are halved in height and width."""
        return self.resolution.size == "halved"

    @property
    def settings(self) -> dict[str, Any]:
        """All keys as plain values, from which the protocol can be built again."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def fingerprint(self) -> str:
        """Eight digits that change with any key that may change a score, and with nothing else."""
        deciding = {name: value for name, value in self.settings.items() if name not in WORDS_ONLY}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]

    def check_inputs(self, inputs: Sequence[str]) -> None:
        """Refuse a recipe that is given maps where images change their size.

        Args:
            inputs: the fields that the recipe predicts from. What its training needs beside them does not matter here.

        Raises:
            DualPixelError: a map is among them.
        """
        maps = [name for name in inputs if name in MAPS]
        if maps and (self.halved or self.inference.size):
            raise DualPixelError(
                f"protocol {self.id} {'halves' if self.halved else 'resizes'} images, which maps cannot follow; the recipe needs "
                f"{', '.join(maps)}: choose another --protocol"
            )

    def check_truth(self, outputs: Sequence[str], fields: Sequence[str], what: str) -> None:
        """Refuse data without anything that the protocol compares outputs with.

        Args:
            outputs: the images that the recipe is trained to predict (`dualpixel.recipes.outputs.trained_outputs`).
            fields: what the data have.
            what: their name, for the message.

        Raises:
            DualPixelError: the map of the protocol is not there; or, without such a map, none of the images is.
        """
        has = f"{what} has {', '.join(fields)}"
        if self.truth and self.truth not in fields:
            raise DualPixelError(
                f"protocol {self.id} compares predicted blur with the {self.truth} of the data; {has}: choose another --protocol"
            )
        if not self.truth and not set(outputs) & set(fields):
            raise DualPixelError(
                f"protocol {self.id}: nothing can be scored. The recipe is trained to predict {', '.join(outputs) or 'no image'}; {has}: "
                "choose another data set or --protocol"
            )

    def refuse(self, recipe: str, predicted: Iterable[str], fields: Sequence[str], what: str) -> NoReturn:
        """Refuse a recipe whose first prediction holds nothing that can be compared with what the data have.

        Args:
            recipe: its name.
            predicted: what it predicts.
            fields: what the data have.
            what: their name.

        Raises:
            DualPixelError: always.
        """
        raise DualPixelError(
            f"protocol {self.id}: nothing can be scored. It compares {f'predicted blur with {self.truth}' if self.truth else 'images'}; "
            f"{recipe} predicts {', '.join(predicted)}, {what} has {', '.join(fields)}: choose another recipe or --protocol"
        )

    def check_size(self, height: int, width: int, what: str) -> None:
        """Refuse a scene whose images cannot be made what the network is to see, or of which nothing is left to compare.

        Args:
            height: of the scene as stored, pixels.
            width: of the same.
            what: its name, for the message.

        Raises:
            DualPixelError: an odd side where images are halved; a scene of which nothing is left where maps are cut as those of
                DPD-disp, or within the border; where images are enlarged to one size, a scene that is larger, or whose aspect ratio is
                more than `STRETCH` away from that size's.
        """
        found, mended = f"{what} of {height} x {width} pixels", "choose another --protocol"
        if self.halved:
            check_even(height, width, what)
            height, width = height // 2, width // 2
        if self.truth == "disparity":
            check_dpd_disp_size(2 * height, 2 * width, what)
        least = SSIM_WINDOWS[self.ssim] if self.ssim else 1
        if self.border and min(height, width) - 2 * self.border < least:
            raise DualPixelError(
                f"{found}: a border of {self.border} pixels leaves less than {least} x {least} to compare; {mended}"
            )
        if self.inference.size is None:
            return
        rows, columns = self.inference.size
        found = f"{found} cannot be enlarged to {rows} x {columns}"
        stretch = (height / width) / (rows / columns)
        if not 1 / (1 + STRETCH) <= stretch <= 1 + STRETCH:
            raise DualPixelError(
                f"{found} without distortion: height / width is {height / width:.3f}, more than {STRETCH:.0%} away from "
                f"{rows / columns:.3f}; {mended}"
            )
        if height > rows or width > columns:
            raise DualPixelError(f"{found}: it is larger; {mended}")

    def batch(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch as the network is to see it, and as its outputs are compared; predicted views are not put in here.

        Halved batches have no maps: a blur radius in pixels and depths across an edge are not halved like colours. Disparity that
        is the truth is the exception; it is prepared in its own way, and smaller than the images then.

        Raises:
            DualPixelError: a size that cannot be halved, or disparity that is not in [0, 1].
        """
        result = {name: value for name, value in batch.items() if not (self.halved and name in MAPS)}
        for name in IMAGES:
            bits = self.quantisation.target if name == "sharp" else self.quantisation.input
            if name in result and bits:
                result[name] = drop_low_bits(result[name], bits)
            if name in result and self.halved:
                result[name] = halve(result[name], bits or STORED_BITS)
        if self.truth == "disparity":
            result["disparity"] = prepare_truth(batch["disparity"])
        return result

    def output(self, image: Tensor) -> Tensor:
        """Return an output, (B, 3, H, W) in [0, 1], as it is compared, but for the border."""
        return truncate(image, self.quantisation.output) if self.quantisation.output else image

    def inside(self, image: Tensor) -> Tensor:
        """Return what is compared of an image or a map, (..., H, W): all within the border."""
        cut = self.border
        return image[..., cut : image.shape[-2] - cut, cut : image.shape[-1] - cut] if cut else image

    def estimate(self, blur: Tensor) -> Tensor:
        """Return predicted blur, (B, 1, H, W), as it is compared with the truth, but for the border."""
        return prepare_estimate(blur) if self.truth == "disparity" else blur
