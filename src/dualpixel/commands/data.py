"""`data list | show | prepare | index | verify | preview | overlap`."""

import os
import shlex
from pathlib import Path
from typing import Literal

from rich.table import Table

from dualpixel.commands.arguments import call, run_plugin
from dualpixel.commands.data_overlap import overlap
from dualpixel.data.card import WindowRule
from dualpixel.data.index import Index, has_index, load_index
from dualpixel.data.registry import card_names, get_card
from dualpixel.data.remote import prepared_root
from dualpixel.errors import DualPixelError
from dualpixel.paths import SHARDS_VARIABLE, local_folder
from dualpixel.terminal import console


def run(arguments: list[str]) -> None:
    """Run one of the data commands."""
    commands = {
        "list": list_sets,
        "show": show,
        "prepare": prepare,
        "index": index,
        "verify": verify,
        "preview": preview,
        "overlap": overlap,
    }
    call("dualpixel data", commands, arguments)


def list_sets() -> None:
    """List the data sets of the registry, and which are prepared."""
    table, here = Table(), "://" not in os.environ.get(SHARDS_VARIABLE, "")
    for heading in ("name", "title", "scenes", "bits", "fields", "prepared"):
        table.add_column(heading)
    for name in card_names():
        card = get_card(name)
        scenes = " / ".join(f"{split.count} {label}" for label, split in card.splits.items())
        # a server would be asked for every split of every card
        ready = [split for split in card.splits if here and has_index(prepared_root(card.name) / split)]
        said = (
            "yes"
            if len(ready) == len(card.splits)
            else ", ".join(ready) or ("on first use" if card.generated and here else "no" if here else "see data show")
        )
        table.add_row(card.name, card.title, scenes, str(card.bit_depth), ", ".join(card.fields), said)
    console().print(table)


def show(name: str) -> None:
    """Show everything a card says: where to get the data, licence, citation.

    Args:
        name: a card's name or path.
    """
    card = get_card(name)
    lines = [f"{card.name}: {card.title}", f"version {card.version}, {card.bit_depth} bits per channel, {card.colour}"]
    lines.append(f"size {card.size[0]}x{card.size[1]} (height x width)" if card.size else "size varies")
    lines.append(f"fields: {', '.join(card.fields)}")
    for label, split in card.splits.items():
        groups = ", ".join(f"{len(keys)} {group}" for group, keys in split.groups.items())
        rule = card.preparation.windows.get(label)
        windows = f"; windows of {rule.size}, overlap {rule.overlap:g}, discard {rule.discard:g}" if rule else ""
        lines.append(f"{label}: {split.count} scenes{f' ({groups})' if groups else ''}{windows}")
    lines += [
        f"protocols: {', '.join(card.protocols)}",
        f"homepage: {card.homepage}",
        f"licence: {card.licence}",
        "",
        "How to get it:",
    ]
    lines.append(card.download.strip())
    for mirror in card.mirrors:
        checked = f" sha256 {mirror.sha256}" if mirror.sha256 else " (no checksum published)"
        lines.append(f"  {mirror.file}: {mirror.url}{' (browser)' if mirror.browser else ''}{checked}")
    lines += [f"note: {note}" for note in card.notes]
    lines += ["", "Prepared:"]
    for label in card.splits:
        folder = prepared_root(card.name) / label
        if has_index(folder):
            lines.append(f"  {folder}: {_prepared(load_index(folder))}")
        else:
            lines.append(f"  {folder}: not yet")
    print("\n".join([*lines, "", card.citation.strip()]))


def _prepared(index: Index) -> str:
    noted, members = index.preparation, [member for sample in index.samples for member in sample.members.values()]
    shapes = sorted({tuple(member.shape[:2]) for member in members})
    sizes = "x".join(map(str, shapes[0])) if len(shapes) == 1 else f"{len(shapes)} sizes"
    rule = noted.get("windows")
    windows = (
        f"windows of {rule['size']}, overlap {rule['overlap']:g}, discard {rule['discard']:g}" if rule else "no windows"
    )
    bits = (
        f"{noted['bit_depth']} bits" if "bit_depth" in noted else "/".join(sorted({member.dtype for member in members}))
    )
    return "; ".join(
        [
            f"{len(index.samples)} scenes ({'complete' if noted.get('complete') else 'partial'}), fingerprint {index.fingerprint}",
            f"version {index.version}, {', '.join(index.fields())}, {sizes}, {bits}, {windows}",
            f"{len(index.shards)} shard{'s' * (len(index.shards) > 1)} of {'/'.join(sorted({member.codec for member in members}))}, "
            f"{sum(shard.bytes for shard in index.shards) / 1e9:.2f} GB"
            + ("" if "request" in noted else ", made elsewhere"),
        ]
    )


def prepare(
    name: str,
    source: Path | None = None,
    out: Path | None = None,
    codec: Literal["npy", "png"] = "npy",
    processes: int | None = None,
    partial: bool = False,
    part: str | None = None,
    plugin: Path | None = None,
) -> None:
    """Turn the authors' files into shards; a stopped run goes on where it stopped.

    On a cluster, each job of an array writes one part, and `data index DIR` joins them when all are done.

    Args:
        name: a card's name or path.
        source: folder with the downloaded, unpacked files; for sets of the folders reader also their zip archive, as it is.
        out: folder for the shards; by default $DUALPIXEL_SHARDS/NAME, else shards/NAME.
        codec: raw pixels that are mapped into memory (npy), or 16-bit PNG members for exchange (png).
        processes: worker processes; by default one a core.
        partial: accept fewer scenes than the card promises, and leave out splits that have none.
        part: i/n: write the i-th of n parts only, i from 1 to n. SLURM: --array=1-n and
            --part $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT.
        plugin: a Python file of yours that registers a reader.
    """
    from dualpixel.data.joining import Part
    from dualpixel.data.prepare import prepare as prepare_set

    one = Part.parse(part) if part else None
    card = get_card(name)
    run_plugin(plugin)
    folder = prepare_set(card, source, out, codec, processes, partial, one)
    if one:
        print(
            f"part {one} of {card.name} is written; when all are: python -m src data index {shlex.quote(str(folder))}"
        )
        return
    print(
        f"{card.name} is prepared in {folder}; look at it: dualpixel data preview {shlex.quote(name)}"
        + (f" --root {shlex.quote(str(folder))}" if out else "")
    )


def index(
    folder: Path, card: str | None = None, window: int | None = None, overlap: float = 0.0, discard: float = 0.0
) -> None:
    """Join the parts of `data prepare --part`, or make the index of a folder of WebDataset tars that came from elsewhere.

    Args:
        folder: holds the parts of a set; or tars with members KEY.FIELD.npy or KEY.FIELD.png, and its own name becomes the split's.
        card: the card the tars belong to.
        window: lay windows of this size over the scenes.
        overlap: share by which windows overlap.
        discard: share of a scene's windows to leave out in training.
    """
    from dualpixel.data.indexing import make_index
    from dualpixel.data.joining import is_in_parts, join

    rule = WindowRule(window, overlap, discard) if window else None
    folder = local_folder(folder)
    if is_in_parts(folder):
        if card or rule:
            raise DualPixelError(
                f"{folder} holds parts of `data prepare`, which noted card and windows; leave them out"
            )
        made = join(folder)
    else:
        made = [make_index(folder, get_card(card) if card else None, rule)]
    for one in made:
        said = f"{_counted(len(one.samples), 'scene')} in {_counted(len(one.shards), 'shard')}, fields {', '.join(one.fields())}"
        print(f"{one.dataset} {one.split}: {said}, fingerprint {one.fingerprint}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def verify(name: str, root: str | None = None) -> None:
    """Hash the shards of a prepared set again: missing, altered and extra files are found.

    Args:
        name: a card's name or path.
        root: where its splits lie, a folder or the address of one; by default $DUALPIXEL_SHARDS/NAME, else shards/NAME.
    """
    from dualpixel.data.verify import verify_split

    card = get_card(name)
    folder = prepared_root(card.name, root)
    splits = [split for split in card.splits if has_index(folder / split)]
    if not splits:
        raise DualPixelError(f"{card.name} is not prepared in {folder}; {card.how_to_get()}")
    faults = [fault for split in splits for fault in verify_split(folder / split)]
    missing = [split for split in card.splits if split not in splits]
    if faults:
        raise DualPixelError(
            f"{card.name}: {len(faults)} faults: {'; '.join(faults)}\n"
            f"remove what is altered and run `data prepare {shlex.quote(name)}` again"
        )
    print(f"{card.name}: {', '.join(splits)} as written" + (f"; not prepared: {', '.join(missing)}" if missing else ""))


def preview(
    name: str,
    split: str | None = None,
    out: Path | None = None,
    count: int = 6,
    root: str | None = None,
    camera: Path | None = None,
) -> None:
    """Draw a contact sheet: left, right, their difference, sharp (and depth, blur and disparity where there are any) of some scenes.

    Where there are sharp images and depth, a second sheet shows our optics on the first scene: point spread functions, a detail swept
    through focus, and the scene as the camera of the settings that blurs most sees it.

    Args:
        name: a card's name or path.
        split: which split; by default the first that is prepared.
        out: the PNG; by default previews/NAME-SPLIT.png.
        count: how many scenes, evenly spread over the split.
        root: where the splits lie, a folder or the address of one; by default $DUALPIXEL_SHARDS/NAME, else shards/NAME.
        camera: a YAML with settings of the camera, as for `simulate`; by default the defaults there.
    """
    from dualpixel.data.preview import draw_contact_sheet
    from dualpixel.data.reading import PreparedSplit

    card = get_card(name)
    home = prepared_root(card.name, root)
    split = split or next((one for one in card.splits if has_index(home / one)), next(iter(card.splits)))
    card.split(split)
    folder = home / split
    if not has_index(folder):
        raise DualPixelError(f"{card.name} {split} is not prepared in {folder}; {card.how_to_get()}")
    out = out or Path("previews") / f"{card.name}-{split}.png"
    prepared = PreparedSplit(folder)
    draw_contact_sheet(prepared, out, count)
    print(out)
    if {"sharp", "depth"} <= set(prepared.index.fields()):
        from dualpixel.data.optics_sheet import draw_optics_sheet
        from dualpixel.data.simulated import load_views

        sheet = out.with_name(f"{out.stem}-optics{out.suffix}")
        draw_optics_sheet(prepared, sheet, load_views(camera))
        print(sheet)
