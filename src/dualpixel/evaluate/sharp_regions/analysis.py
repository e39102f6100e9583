"""How much a network alters what is in focus already, measured and drawn during `test`."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from dualpixel.data.samplers import NOT_COUNTED
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.protocol import Protocol
from dualpixel.evaluate.result import code_version, now
from dualpixel.evaluate.scores import Scores
from dualpixel.evaluate.sharp_regions import regions
from dualpixel.evaluate.sharp_regions.curve import (
    CURVE,
    SCHEMA,
    SharpRegionCurve,
    check_comparable,
    curve_folder,
    find_curve,
    load_curve,
    save_curve,
)
from dualpixel.evaluate.sharp_regions.in_focus import InFocusRegions, Source
from dualpixel.evaluate.sharp_regions.regions import THRESHOLDS
from dualpixel.evaluate.sharp_regions.sheet import draw_curves, draw_sharp_region_sheet
from dualpixel.evaluate.sharp_regions.similarity_maps import SimilarityRecorder
from dualpixel.hints import near
from dualpixel.metrics.per_image import SEEN, PerImageScores
from dualpixel.recipes.outputs import trained_outputs
from dualpixel.running.folder import DuringEvaluation
from dualpixel.weights.files import weights_hash

AT_MOST = [f"at most {threshold:g}" for threshold in THRESHOLDS]
PIXELS, IMAGE_PIXELS = "in focus", "pixels"
SAID = 0.01
"""The error whose percentage is said on the terminal."""


class SharpRegions(DuringEvaluation):
    """Compares the output with the input where that is in focus, while `test` runs; both as the protocol makes them.

    Written beside the result, into ``sharp_regions/``: ``curve.json`` and ``curve.png``, how many of the pixels in focus
    have at most which error, of all images together; and for some images ``KEY.png`` with the region, the error, and the
    similarity of each SRP block where the network has such blocks.

    Source: Yang, Pan, Liu and Liu, "K3DN", CVPR 2023, section 4.2 with figure 8, and figure 4.

    Differences: the authors labelled the regions by hand, and did not publish that. Regions are found here by one of three
    ways, `source`; only curves of the same regions can be compared. As in the paper, the output is measured against the
    input, whose own error is 0: the best curve is that of doing nothing, so it says something only beside a score.

    Args:
        enabled: whether all this is done.
        source: "masks" takes `masks`. "blur" takes where the data set's blur radius is at most half a pixel. "target" takes
            textured places where the input agrees with the sharp image (see `regions.in_focus_by_target`). "auto" takes the
            first of these that is there.
        masks: a folder with KEY.png for each image, black where out of focus, of the size that the protocol compares.
        compare: run folders or curve.json files whose curves are drawn as well.
        count: how many images are drawn, the first ones.
        keys: draw the images of these keys in their place.

    Raises:
        DualPixelError: options that contradict each other, or a file that is not there.
    """

    def __init__(
        self,
        enabled: bool = False,
        source: Source = "auto",
        masks: Path | None = None,
        compare: list[Path] | Path | None = None,
        count: int = 4,
        keys: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.enabled, self.count, self.keys = enabled, count, keys
        self.regions = InFocusRegions(source, masks)
        self.compare = [Path(one) for one in (compare if isinstance(compare, list) else [compare]) if one is not None]
        missing = next((one for one in self.compare if not one.exists()), None)
        if missing is not None:
            raise DualPixelError(f"--sharp_regions.compare {missing}: no such run folder or curve")
        self._recorder: SimilarityRecorder | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose how regions are found, and refuse, before anything runs, what cannot be drawn or compared."""
        super().setup(trainer, pl_module, stage)
        if not self.enabled or stage != "test":
            return
        data, self._protocol = trainer.datamodule, _protocol(trainer)
        if "sharp" not in trained_outputs(pl_module):
            raise DualPixelError(f"--sharp_regions.enabled: {pl_module.name} is not trained to predict the sharp image")
        self._samples = data.evaluation_samples(data.test_split)
        if "sharp" not in self._samples.fields:
            raise DualPixelError(
                f"--sharp_regions.enabled: the regions are shown beside the sharp image, and {data.card.name} {data.test_split} has "
                f"{', '.join(self._samples.fields)}"
            )
        keys = [self._samples.key(row) for row in range(len(self._samples))]
        for key in self.keys or ():
            if key not in keys:
                raise DualPixelError(f"--sharp_regions.keys: {data.test_split} has no image {key!r}; {near(key, keys)}")
        self._source = self.regions.choose(self._samples.fields, self._protocol)
        numbers, words = self.regions.describe(self._source, keys)
        index = data.split(data.test_split).index
        self._compared = {
            "dataset": index.dataset,
            "dataset_version": index.version,
            "split": index.split,
            "fingerprint": data.fingerprint(data.test_split),
            "protocol": self._protocol.id,
            "regions": numbers,
            "found": f"in focus: {words}",
            "thresholds": list(THRESHOLDS),
        }
        place = (index.dataset, index.split, self._protocol.id)
        self.target_folder = curve_folder(self.folder, *place)
        self._others: list[SharpRegionCurve] = []
        for path in self.compare:
            file = find_curve(path, *place)
            self._others.append(load_curve(file))
            check_comparable(file, self._others[-1], self._compared)

    def begin(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Begin an empty table."""
        self._recorder = None
        if not self.enabled or stage != "test":
            return
        # counts are kept in float64, which Apple's GPUs do not have
        self._place = recipe.device if recipe.device.type == "cuda" else torch.device("cpu")
        # whole numbers in float64: sums over images and processes are exact
        columns = [*AT_MOST, PIXELS, IMAGE_PIXELS]
        self._table = PerImageScores(columns, len(self._samples), partial=True).to(self._place)
        self._recorder = SimilarityRecorder(recipe.net)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *position: int) -> None:
        """Listen to the network where the batch has an image that will be drawn."""
        if self._recorder and any(self._chosen(key, index) for key, index in _named(batch)):
            self._recorder.attach()

    def batch(self, trainer: Trainer, recipe: LightningModule, stage: str, outputs: Any, batch: Any) -> None:
        """Measure the images of one batch, and draw those that were chosen."""
        if not self._recorder:
            return
        self._recorder.remove()
        if int(batch["index"][0]) == NOT_COUNTED:
            return
        output = self._protocol.output(outputs["prediction"]["sharp"].to(self._place).float())
        blurry = regions.blurry_image(batch).to(self._place)
        in_focus = self.regions.find(self._source, batch, blurry)
        errors = regions.intensity_error(output, blurry)
        counts = regions.error_distribution(errors, in_focus).unbind(1)
        pixels = torch.full_like(batch["index"], errors[0].numel())
        columns = dict(zip(AT_MOST, counts, strict=True)) | {PIXELS: in_focus.sum((1, 2)), IMAGE_PIXELS: pixels}
        self._table.update(batch["index"], columns)
        images = {"input": blurry, "output": output, "target": batch["sharp"]}
        for row, (key, index) in enumerate(_named(batch)):
            if self._chosen(key, index):
                similarities = self._recorder.maps(row, *errors.shape[1:])
                draw_sharp_region_sheet(
                    self.target_folder / f"{key}.png",
                    f"{key}, {recipe.weights_metadata()['recipe']}; {self._compared['found']}",
                    {name: _shown(image[row]) for name, image in images.items()},
                    in_focus[row].cpu().numpy(),
                    errors[row].cpu().numpy(),
                    {name: one.numpy() for name, one in similarities.items()},
                )

    def end(self, trainer: Trainer, recipe: LightningModule, stage: str) -> None:
        """Gather the counts of all processes; write and draw the curve."""
        if not self._recorder:
            return
        table = {name: column.long().cpu() for name, column in self._table.compute().items()}
        pixels = int(table[PIXELS][table[SEEN] > 0].sum())
        if not trainer.is_global_zero:
            return
        if not table[SEEN].all():
            print("sharp regions: a limited run, no curve is written")
        elif not pixels:
            print(f"sharp regions: nothing is in focus ({self._compared['found']}), no curve is written")
        else:
            self._write(self._curve(table, trainer, recipe))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        if self._recorder:
            self._recorder.remove()

    def _chosen(self, key: str, index: int) -> bool:
        return key in self.keys if self.keys else 0 <= index < self.count

    def _curve(self, table: dict[str, Tensor], trainer: Trainer, recipe: LightningModule) -> SharpRegionCurve:
        at_most = torch.stack([table[name] for name in AT_MOST], dim=1)  # (images, thresholds)
        rows = []
        for row, (counts, pixels) in enumerate(zip(at_most.tolist(), table[PIXELS].tolist(), strict=True)):
            named = {"key": self._samples.key(row), "group": self._samples.group(row), "pixels": pixels}
            rows.append({**named, "percentage": [100 * count / pixels for count in counts] if pixels else None})
        total = int(table[PIXELS].sum())
        return SharpRegionCurve(
            schema=SCHEMA,
            recipe=recipe.weights_metadata()["recipe"],
            run=self.folder.name,
            weights_sha256=weights_hash(recipe.net.state_dict()),
            weights_source=str(trainer.ckpt_path or recipe.init_from or ""),
            **self._compared,
            pixels=total,
            image_pixels=int(table[IMAGE_PIXELS].sum()),
            percentage=[100 * count / total for count in at_most.sum(0).tolist()],
            rows=rows,
            code=code_version(),
            made=now(),
        )

    def _write(self, curve: SharpRegionCurve) -> None:
        save_curve(self.target_folder / CURVE, curve)
        share = 100 * curve.pixels / curve.image_pixels
        title = f"{curve.dataset} {curve.split}, protocol {curve.protocol}\n{curve.found}, {share:.1f} % of the pixels"
        curves: dict[str, list[float]] = {}
        for one in (curve, *self._others):
            name = f"{one.recipe} ({one.run})"
            same = sum(other.startswith(name) for other in curves)
            curves[f"{name} {same + 1}" if same else name] = one.percentage
        draw_curves((self.target_folder / CURVE).with_suffix(".png"), title, curve.thresholds, curves)
        kept = curve.percentage[curve.thresholds.index(SAID)]
        print(
            f"sharp regions: {share:.1f} % of the pixels are in focus ({curve.found.removeprefix('in focus: ')}); {kept:.1f} % of "
            f"them are altered by at most {SAID:g}; written to {self.target_folder}"
        )


def _protocol(trainer: Trainer) -> Protocol:
    """Return the protocol that the batches of a test are made by."""
    scores = next((one for one in trainer.callbacks if isinstance(one, Scores)), None)
    if scores is None:
        raise DualPixelError(
            "SharpRegions needs the callback Scores beside it, which makes batches what the protocol says"
        )
    return scores.protocol_of_test(trainer)


def _named(batch: Any) -> list[tuple[str, int]]:
    return list(zip(batch["key"], batch["index"].tolist(), strict=True))


def _shown(image: Tensor) -> Any:
    return image.clamp(0, 1).permute(1, 2, 0).cpu().numpy()
