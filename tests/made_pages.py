"""A leaderboard's page with results of all kinds, and the pictures beside them."""

import cv2
import numpy as np
from made_results import made_result, photographs, save

from dualpixel.evaluate.leaderboard.page import page
from dualpixel.evaluate.leaderboard.reading import collect, find_results
from dualpixel.evaluate.leaderboard.tables import leaderboards
from dualpixel.evaluate.result import load_result, save_result

HOSTILE = "</script><img src=x onerror=\"document.title='hurt'\">'`&amp;\u2028\u202e\x1b[31m{{content}}"
"""What a name must not do: end the data, begin an element, turn the text, steer a terminal, or be filled in."""
NETWORKS = {
    "dpdnet": (24.9, 31_035_151, 1_574e9, 0.4, "NVIDIA H200"),
    "k3dn_tiny": (25.6, 3_003_000, 571e9, 0.2, "cpu"),
    "k3dn": (26.2, 15_900_000, 3_352e9, 0.9, "NVIDIA H200"),
    "mdp": (25.3, 46_000_000, 1_900e9, None, "cpu"),
}


def write_thumbnails(result_file, keys, seed=0):
    """Write pictures as `test` does, of noise, so that they differ."""
    folder = result_file.parent / "thumbnails"
    folder.mkdir()
    noise = np.random.default_rng(seed)
    for key in keys:
        for kind in ("scene", "input", "output", "target"):
            size = (160, 107) if kind == "scene" else (128, 128)
            picture = cv2.resize(noise.integers(0, 255, (6, 6, 3)).astype(np.uint8), size)
            assert cv2.imwrite(str(folder / f"{key}-{kind}.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, 80])


def save_networks(runs):
    """Save a result of each of `NETWORKS` on DPDD, all but the last with pictures of six images."""
    for place, (recipe, (psnr, parameters, macs, seconds, device)) in enumerate(NETWORKS.items()):
        size = [1152, 1792] if recipe.startswith("k3dn") else [1120, 1680]
        measured = {"parameters": parameters, "macs": int(macs), "macs_size": size, "seconds": seconds}
        result = photographs(psnr, seed=place, recipe=recipe, environment={"device": device}, **measured)
        file = save(runs, f"{recipe}-dpdd-1", result)
        if recipe != "mdp":
            write_thumbnails(file, [row["key"] for row in result.rows[::13]], seed=place)


def save_hostile(runs):
    """Save a result of which every text that a file may hold is `HOSTILE`, and its group and keys too; on data of its own."""
    file = save(runs, "hostile", made_result({"psnr": [25.0, 26.0], "input_psnr": [24.0, 24.0]}, ["a", "b"]))
    result = load_result(file)
    said = HOSTILE.replace("\x1b", "").replace("\u202e", "")  # reading a result refuses those in its own fields
    rows = [{**row, "key": f"{HOSTILE}{place}", "group": f"{HOSTILE}{place}"} for place, row in enumerate(result.rows)]
    means = {"overall": result.means["overall"]} | {row["group"]: {"psnr": row["psnr"]} for row in rows}
    texts = ("recipe", "weights_sha256", "dataset", "split", "fingerprint", "protocol", "protocol_description", "code")
    changes = dict.fromkeys(texts, said) | {
        "environment": {"device": HOSTILE},
        "seconds": 0.5,
        "rows": rows,
        "means": means,
    }
    save_result(file, type(result)(**{**vars(result), **changes}))


def boards_of(runs, against=None):
    """Return the tables of a folder of runs."""
    entries, left_out = collect(find_results([runs]))
    assert not left_out, left_out
    return leaderboards(entries, (runs / against).resolve() if against else None)


def write_page(folder, boards, thumbnails=9, **options):
    """Write a page and return its path."""
    path = folder / "leaderboard.html"
    path.write_text(page(boards, thumbnails=thumbnails, **options), encoding="utf-8")
    return path
