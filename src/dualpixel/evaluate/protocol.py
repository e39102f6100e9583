"""What a protocol is made of: what a network sees, and what its outputs are compared with."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from torch import Tensor

from dualpixel.data.fields import IMAGES, MAPS
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.dpd_disp import check_dpd_disp_size, prepare_estimate, prepare_truth
from dualpixel.evaluate.quantise import check_even, drop_low_bits, halve, truncate

STRETCH = 0.08
"""How far the aspect ratio of a scene may be from the one it is resized to. The authors of K3DN stretch 1120 x 1680 by 3.7 %; 8 %
takes other photographs of about 3 : 2, and neither upright ones nor 4 : 3 or 16 : 9."""


@dataclass(frozen=True)
class Protocol:
    """How a prediction is compared with its target.

    Args:
        id: short name, part of every result.
        description: what is compared, in one sentence.
        source: who defined it.
        data_bits: the bits per channel that a data set may have.
        bits: all images of a batch are cut to so many bits before the network sees them, and outputs before they are scored;
            None leaves both alone.
        quantised: whether outputs are cut to `bits`, too; without it they are scored as they are.
        halved: whether images are halved in height and width after that; only where `bits` is given.
        resized: (height, width) at which the network sees all images; its output is brought back to the size of the target, which
            is never resized (see `dualpixel.evaluate.resize`). None for their own size.
        views_predicted: whether the left and the right view are replaced by those that another network predicts from the combined
            image (see `dualpixel.evaluate.predicted_views`).
        metrics: the columns of the images, in order; none scores no image.
        truth: the map of the data that predicted blur is compared with: ``blur`` as it is, by the usual errors of inverse depth;
            ``disparity`` by affine-invariant scores, and both maps go through `dualpixel.evaluate.dpd_disp` first. None for no map.
    """

    id: str
    description: str
    source: str
    data_bits: tuple[int, ...]
    bits: int | None = None
    quantised: bool = True
    halved: bool = False
    resized: tuple[int, int] | None = None
    views_predicted: bool = False
    metrics: tuple[str, ...] = ("psnr", "ssim", "mae", "lpips")
    truth: Literal["blur", "disparity"] | None = None

    def check_inputs(self, inputs: Sequence[str]) -> None:
        """Refuse a recipe that is given maps where images change their size.

        Args:
            inputs: the fields that the recipe predicts from. What its training needs beside them does not matter here.

        Raises:
            DualPixelError: a map is among them.
        """
        maps = [name for name in inputs if name in MAPS]
        if maps and (self.halved or self.resized):
            raise DualPixelError(
                f"protocol {self.id} {'halves' if self.halved else 'resizes'} images, which maps cannot follow; the recipe needs "
                f"{', '.join(maps)}: choose another --scores.protocol"
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
                f"protocol {self.id} compares predicted blur with the {self.truth} of the data; {has}: choose another --scores.protocol"
            )
        if not self.truth and not set(outputs) & set(fields):
            raise DualPixelError(
                f"protocol {self.id}: nothing can be scored. The recipe is trained to predict {', '.join(outputs) or 'no image'}; {has}: "
                "choose another data set or --scores.protocol"
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
            f"{recipe} predicts {', '.join(predicted)}, {what} has {', '.join(fields)}: choose another recipe or --scores.protocol"
        )

    def check_size(self, height: int, width: int, what: str) -> None:
        """Refuse a scene whose images cannot be made what the network is to see.

        Args:
            height: of the scene as stored, pixels.
            width: of the same.
            what: its name, for the message.

        Raises:
            DualPixelError: an odd side where images are halved; a scene of which nothing is left where maps are cut as those of
                DPD-disp; where images are enlarged to one size, a scene that is larger, or whose aspect ratio is more than
                `STRETCH` away from that size's.
        """
        if self.halved:
            check_even(height, width, what)
        if self.truth == "disparity":
            check_dpd_disp_size(height, width, what)
        if self.resized is None:
            return
        rows, columns = self.resized
        found = f"{what} of {height} x {width} pixels cannot be enlarged to {rows} x {columns}"
        mended = "choose another --scores.protocol"
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
        if self.bits is None:
            return dict(batch)
        result = {name: value for name, value in batch.items() if not (self.halved and name in MAPS)}
        for name in IMAGES:
            if name in result:
                cut = drop_low_bits(result[name], self.bits)
                result[name] = halve(cut, self.bits) if self.halved else cut
        if self.truth == "disparity":
            result["disparity"] = prepare_truth(batch["disparity"])
        return result

    def output(self, image: Tensor) -> Tensor:
        """Return an output, (B, 3, H, W) in [0, 1], as it is compared."""
        return truncate(image, self.bits) if self.bits and self.quantised else image

    def estimate(self, blur: Tensor) -> Tensor:
        """Return predicted blur, (B, 1, H, W), as it is compared with the truth."""
        return prepare_estimate(blur) if self.truth == "disparity" else blur
