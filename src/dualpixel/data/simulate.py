"""Dual-pixel pairs as files: every RGB-D scene is rendered once, by a camera drawn for it."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import torch

from dualpixel import __version__
from dualpixel.data.card import Card
from dualpixel.data.fields import IMAGES
from dualpixel.data.images import write_png
from dualpixel.data.maps import depth_range, fill_holes, write_map
from dualpixel.data.parallel import how_many, in_parallel, one_thread
from dualpixel.data.prepare import plan
from dualpixel.data.readers import Reader, Scene, get_reader
from dualpixel.data.samplers import generator
from dualpixel.data.simulated import NEEDED, PROVIDED, Place, SimulatedViews
from dualpixel.data.stream import to_stored
from dualpixel.errors import DualPixelError
from dualpixel.files import locked, read_json, write_json, write_yaml
from dualpixel.terminal import progress

CARD, CAMERA, SETTINGS, RECORDS = "card.yaml", "camera.yaml", "simulation.json", "records"
ENDINGS = {name: "png" if name in IMAGES else "npy" for name in PROVIDED}
VERSIONS = {"dualpixel": __version__, "torch": torch.__version__, "numpy": np.__version__, "opencv": cv2.__version__}


@dataclass(frozen=True)
class Made:
    """What lies in the folder at the end.

    Args:
        scenes: split -> keys.
        rendered: how many of them this run rendered.
        empty: splits of the source's card that have no scene.
        when_empty: what to do about those.
    """

    scenes: dict[str, list[str]]
    rendered: int
    empty: list[str]
    when_empty: str


def simulate_pairs(
    card: Card,
    source: Path,
    out: Path,
    views: SimulatedViews | None = None,
    bit_depth: int = 16,
    seed: int = 0,
    processes: int | None = None,
) -> Made:
    """Render every scene of a folder into a data set of dual-pixel pairs.

    Written are ``SPLIT/{left,right,combined,sharp}/KEY.png``, ``SPLIT/{depth,blur}/KEY.npy``, for each scene a record of the camera
    that was drawn, of what it was rendered from and by (``SPLIT/records/KEY.json``), and ``card.yaml``, by which `prepare` reads
    the folder. The camera of a scene depends on (seed, key) alone. A stopped run goes on where it stopped.

    Args:
        card: says how the source is read; its fields must hold sharp and depth.
        source: the folder.
        out: the folder written.
        views: range of cameras and model of the blur; None for the defaults.
        bit_depth: 8 or 16, of the images written; rendered in float64, and rounded once.
        seed: of the cameras.
        processes: how many worker processes; None for one a core, at most 8. The bytes do not depend on it.

    Raises:
        DualPixelError: nothing found, a scene that cannot be read or rendered, or a folder that holds pairs made from other settings
            or files.
    """
    source, out = Path(source), Path(out)
    if source.resolve() == out.resolve():
        raise DualPixelError(f"--out {out} is the source itself; give another folder")
    missing = [name for name in NEEDED if name not in card.fields]
    if missing:
        raise DualPixelError(
            f"simulate renders from {' and '.join(NEEDED)}; the card {card.name} has no {', '.join(missing)} "
            f"(it has {', '.join(card.fields)})"
        )
    processes = how_many(processes)
    reader = get_reader(card, source)
    plans = plan(card, reader, partial=True)
    simulation = Simulation(reader, views or SimulatedViews(), out, bit_depth, seed)
    with locked(out):
        todo = simulation.begin(plans)
        with progress() as bar:
            tasks = {
                split: bar.add_task(f"simulate {split}", total=len(scenes), completed=len(scenes) - len(todo[split]))
                for split, scenes in plans.items()
            }
            work = [partial(simulation.render, split, scene) for split, scenes in todo.items() for scene in scenes]
            for split in in_parallel(work, processes):
                bar.advance(tasks[split])
        simulation.finish(plans)
    keys = {split: [scene.key for scene in scenes] for split, scenes in plans.items()}
    return Made(keys, len(work), [split for split in card.splits if split not in plans], reader.when_empty())


@dataclass(frozen=True)
class Simulation:
    """One folder of pairs on its way; see `simulate_pairs` for the arguments."""

    reader: Reader
    views: SimulatedViews
    out: Path
    bit_depth: int
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the files that the pixels depend on, as plain JSON values."""
        settings = {
            "reader": asdict(self.reader.card.reader),
            "optics": asdict(self.views),
            "bit_depth": self.bit_depth,
            "seed": self.seed,
        }
        return json.loads(json.dumps(settings))

    @property
    def settings_hash(self) -> str:
        """16 hexadecimal digits that change with any setting."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def begin(self, plans: dict[str, list[Scene]]) -> dict[str, list[Scene]]:
        """Refuse a folder of another simulation, and return split -> scenes that are still to be rendered."""
        if (self.out / SETTINGS).is_file():
            found = read_json(self.out / SETTINGS)
            changed = [name for name, value in self.settings.items() if found.get(name) != value]
            if changed:
                self._refuse(f"other settings ({', '.join(changed)})")
        elif own := [path for path in (self.out / CARD, self.out / CAMERA) if path.exists()]:
            raise DualPixelError(f"{own[0]} is no simulation's and would be overwritten; give another --out")
        for folder in (self.out, *self.out.glob("*/*/")):
            for left_over in folder.glob(".*.part.*"):  # of a run that was killed
                left_over.unlink()
        planned = {self._record(split, scene.key) for split, scenes in plans.items() for scene in scenes}
        strangers = sorted(set(self.out.glob(f"*/{RECORDS}/*.json")) - planned)
        if strangers:
            self._refuse(f"other files ({strangers[0].stem} is not in the source)")
        todo = {split: [one for one in scenes if not self._is_done(split, one)] for split, scenes in plans.items()}
        write_json(self.out / SETTINGS, self.settings)
        heading = "All settings of the camera; a copy with changes can be given to `simulate --camera`."
        write_yaml(self.out / CAMERA, self.settings["optics"], heading)
        return todo

    def render(self, split: str, scene: Scene, tell: Callable[[str], Any]) -> None:
        """Render one scene and write its files, the record last; then tell the split's name."""
        arrays = self.reader.read(scene)
        sharp, depth = arrays["sharp"], fill_holes(arrays["depth"], name=f"depth of {scene.key}")
        random = generator(self.seed, "simulate", scene.key)
        whole = Place(0, 0, *depth.shape)
        camera = self.views.draw(random, *depth_range(depth, scene.key))
        batch = {
            "sharp": torch.from_numpy(sharp / np.iinfo(sharp.dtype).max).permute(2, 0, 1)[None],
            "depth": torch.from_numpy(depth.astype(np.float64))[None, None],
            "key": [scene.key],
            "camera": [camera],
            "frame": [whole],
            "cut": [whole],
        }
        with one_thread():
            rendered = self.views(batch)
        for name in PROVIDED:
            file = self._file(split, name, scene.key)
            if name in IMAGES:
                write_png(file, to_stored(rendered[name][0], self.bit_depth))
            else:
                write_map(file, rendered[name][0, 0].numpy())
        blur = rendered["blur"]
        record = {
            "key": scene.key,
            "group": scene.group,
            "camera": camera,
            "blur_radius_px": [float(blur.min()), float(blur.max())],
            "settings": self.settings_hash,
            "source": self._stamp(scene),
            "bytes": {name: self._file(split, name, scene.key).stat().st_size for name in PROVIDED},
            "versions": VERSIONS,
        }
        write_json(self._record(split, scene.key), record)
        tell(split)

    def finish(self, plans: dict[str, list[Scene]]) -> None:
        """Write the card of the pairs."""
        card, version = self.reader.card, self.settings_hash
        name = re.sub(r"[^a-z0-9_-]+", "-", self.out.resolve().name.lower()).strip("-_") or "simulated"
        splits = {}
        for split, scenes in plans.items():
            groups: dict[str, list[str]] = {}
            for scene in scenes:
                groups.setdefault(scene.group, []).append(scene.key)
            groups.pop("", None)
            splits[split] = {"scenes": len(scenes)} | ({"groups": groups} if groups else {})
        patterns = {field: f"{{split}}/{field}/*.{ending}" for field, ending in ENDINGS.items()}
        options = {"patterns": patterns, "key": "sharp", "suffixes": dict.fromkeys(PROVIDED, "")}
        content = {
            "name": name,
            "version": version,
            "title": f"dual-pixel pairs rendered from {card.name}",
            "homepage": card.homepage,
            "licence": card.licence,
            "citation": card.citation,
            "download": f"Rendered by `simulate` of dualpixel {__version__}.\n"
            f"Then: python -m src data prepare {CARD} --source FOLDER_OF_THIS_CARD\n",
            "fields": list(PROVIDED),
            "bit_depth": self.bit_depth,
            "colour": card.colour,
            "splits": splits,
            "reader": {"name": "folders", "options": options},
            "protocols": card.protocols if self.bit_depth == 16 else ["whole-8bit"],
            "notes": [f"Rendered, not photographed; {CAMERA} and the {RECORDS} beside this card say by which cameras."],
        }
        write_yaml(self.out / CARD, content, "Written by `simulate`, and again by each run.")

    def _is_done(self, split: str, scene: Scene) -> bool:
        path = self._record(split, scene.key)
        if not path.is_file():
            return False
        record = read_json(path)
        if record.get("settings") != self.settings_hash or record.get("source") != self._stamp(scene):
            self._refuse(f"other files ({scene.key} has changed since)")
        files = {name: self._file(split, name, scene.key) for name in PROVIDED}
        return all(file.is_file() and file.stat().st_size == record["bytes"][name] for name, file in files.items())

    def _refuse(self, what: str) -> NoReturn:
        raise DualPixelError(f"{self.out} holds pairs made from {what}; remove that folder, or give another --out")

    def _stamp(self, scene: Scene) -> list[Any]:
        return json.loads(json.dumps(scene.stamp()))

    def _file(self, split: str, field: str, key: str) -> Path:
        return self.out / split / field / f"{key}.{ENDINGS[field]}"

    def _record(self, split: str, key: str) -> Path:
        return self.out / split / RECORDS / f"{key}.json"
