import hashlib
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from made_results import made_result, photographs, save
from wandb_files import stored_runs

from dualpixel.evaluate import wandb_results
from dualpixel.evaluate.wandb_results import log_result, summary_of
from dualpixel.running.loggers import WandbOptions, make_loggers

HOSTILE = "a/../b\x1b[31m<script>\ud800"
FIRST, SECOND = "result/dpdd-test/dpdnet-16bit/", "result/dpdd-test/k3dn-1152x1792/"


def trainer_with(loggers, first=True):
    return SimpleNamespace(is_global_zero=first, loggers=loggers, global_step=270)


def draw_thumbnails(path, keys):
    (path.parent / "thumbnails").mkdir()
    for place, key in enumerate(keys):
        for kind, gray in (("scene", 0), ("input", 50), ("output", 100), ("target", 150)):
            image = np.full((128, 128, 3), gray + place, np.uint8)
            cv2.imwrite(str(path.parent / "thumbnails" / f"{key}-{kind}.webp"), image)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """One offline run that was tested by two protocols, by the first of them twice, and then moved elsewhere."""
    import wandb

    root = tmp_path_factory.mktemp("logged")
    run = root / "runs" / "run[1]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DATA_DIR", str(root / "runs" / "data"))
        patch.setattr(wandb_results, "MOST_PICTURES", 3)
        loggers = make_loggers(run, {}, WandbOptions(project="tests"), "test")
        try:
            trainer = trainer_with(loggers)
            old = photographs(20.0, seconds=0.9)
            old.means["overall"]["lpips"] = 0.5
            log_result(trainer, old, save(root / "runs", "run[1]", old))
            other = photographs(24.0, protocol="k3dn-1152x1792", macs=None)
            log_result(trainer, other, save(root / "runs", "run[1]", other))
            new = photographs(25.0)
            path = save(root / "runs", "run[1]", new)
            draw_thumbnails(path, [row["key"] for row in new.rows])
            for row in new.rows[:2]:  # what a hostile index would say
                row["group"] = HOSTILE
            new.rows[0]["psnr"], new.rows[1]["psnr"] = "inf", None
            new.means[HOSTILE] = {"psnr": 23.0, "ssim": None, "mae": "inf"}
            log_result(trainer, new, path)
            log_result(trainer_with(loggers, first=False), photographs(1.0, split="other"), path)
        finally:
            wandb.finish()
            wandb.teardown()
        shutil.move(root / "runs", root / "moved")
        (stored,) = stored_runs(root / "moved")
    return stored, root / "moved" / "run[1]" / path.relative_to(run), new


def test_the_summary_has_the_means_of_the_last_test_by_each_protocol(logged):
    stored, _, new = logged
    assert stored.summary[FIRST + "psnr"] == new.means["overall"]["psnr"] == pytest.approx(25, abs=0.1)
    assert stored.summary[FIRST + "indoor/psnr"] == new.means["indoor"]["psnr"]
    assert stored.summary[SECOND + "psnr"] == pytest.approx(24, abs=0.1)
    assert stored.summary[FIRST + "input_ssim"] == new.means["overall"]["input_ssim"]
    assert stored.summary[FIRST + "parameters"] == 31_035_151 and stored.summary[FIRST + "macs"] == 1_574_299_000_000
    assert stored.summary[FIRST + "fingerprint"] == "f" * 16
    assert stored.summary[FIRST + "weights_sha256"] == "0123456789abcdef" * 4
    assert not any("other" in name for name in stored.summary)  # another process than the first


def test_what_is_not_known_or_not_finite_stands_nowhere(logged):
    stored, _, _ = logged
    assert FIRST + "seconds" not in stored.summary and FIRST + "lpips" not in stored.summary  # of the test before
    assert SECOND + "macs" not in stored.summary
    group = "a/../b?[31m<script>?"
    assert stored.summary[f"{FIRST}{group}/psnr"] == 23.0
    assert not {f"{FIRST}{group}/{name}" for name in ("ssim", "mae")} & {*stored.summary}
    assert all(type(value) in (int, float, str) for value in stored.summary.values())
    columns, rows = _table(stored, FIRST)
    assert [rows[place][columns.index("psnr")] for place in (0, 1)] == [None, None]
    assert type(rows[2][columns.index("psnr")]) is float


def test_the_result_file_is_among_the_files_of_the_run_wherever_it_goes(logged):
    stored, path, _ = logged
    for prefix in (FIRST, SECOND):
        name = stored.summary[prefix + "file"]
        assert name == f"results/dpdd-test/{prefix.split('/')[2]}/result.json"
        kept = stored.folder / name
        assert kept.is_file() and not kept.is_symlink() and stored.files[name] == 0  # now
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == stored.summary[prefix + "sha256"]
    assert (stored.folder / stored.summary[FIRST + "file"]).read_bytes() == path.read_bytes()


def test_every_image_has_a_row_and_the_first_have_pictures(logged):
    stored, file, new = logged
    columns, rows = _table(stored, FIRST)
    assert columns == [
        "key",
        "group",
        "input",
        "output",
        "target",
        "psnr",
        "ssim",
        "mae",
        "input_psnr",
        "input_ssim",
        "input_mae",
    ]
    assert len(rows) == 76 and [row[0] for row in rows] == [row["key"] for row in new.rows]
    assert [row[1] for row in rows[:3]] == ["a/../b?[31m<script>?"] * 2 + ["indoor"]
    assert [row[5] for row in rows[2:]] == [row["psnr"] for row in new.rows[2:]]
    assert [sum(row[place] == "Image" for row in rows) for place in (2, 3, 4)] == [3, 3, 3]
    assert all(row[2:5] == ["Image"] * 3 for row in rows[:3])
    kept = {name.rpartition("/")[2]: Path(file).name for name, file in stored.artifacts[-1]["files"].items()}
    staged = {path.name: path for path in file.parents[4].rglob("staging/*")}  # the run was moved since
    grays = [
        [
            cv2.imread(str(staged[kept[f"scene{place:02}-{kind}.webp"]]))[64, 64, 0]
            for kind in ("input", "output", "target")
        ]
        for place in range(3)
    ]
    assert np.abs(np.array(grays, int) - [[50, 100, 150], [51, 101, 151], [52, 102, 152]]).max() <= 2
    assert len(kept) == 9 + 1  # and the table
    assert _table(stored, SECOND)[0] == ["key", "group", "psnr", "ssim", "mae", "input_psnr", "input_ssim", "input_mae"]


def test_tables_stand_at_the_training_step_of_the_test(logged):
    stored, _, _ = logged
    assert [step for step, _ in stored.values(FIRST + "images.path")] == [270, 270]


def test_nothing_is_written_outside_of_the_run(logged):
    stored, path, _ = logged
    assert {one.name for one in path.parents[3].iterdir()} <= {"results", "wandb", "wandb-id.txt", "wandb-step.txt"}
    assert all(stored.folder in one.resolve().parents for one in stored.folder.rglob("*"))


def test_without_a_run_of_wandb_nothing_happens(tmp_path, monkeypatch):
    result = made_result({"psnr": [20.0] * 4})
    path = save(tmp_path, "run", result)
    log_result(trainer_with(make_loggers(tmp_path / "run", {}, WandbOptions(mode="disabled"))), result, path)
    log_result(trainer_with([]), result, path)
    assert not list(tmp_path.rglob("wandb"))


def test_a_summary_is_plain_numbers():
    result = made_result({"psnr": [20.0, 21.0, 22.0, 23.0], "mae": [None] * 4, "ssim": [math.inf] * 4}, seconds=0.25)
    found = summary_of(result)
    assert found == {
        "psnr": 21.5, "indoor/psnr": 20.5, "outdoor/psnr": 22.5, "fingerprint": "f" * 16, "weights_sha256": "0123456789abcdef" * 4,
        "parameters": 31_035_151, "macs": 1_574_299_000_000, "seconds": 0.25,
    }  # fmt: skip


def _table(stored, prefix):
    content = json.loads((stored.folder / stored.summary[prefix + "images.path"]).read_text())
    return content["columns"], content["data"]


def test_a_group_of_all_images_does_not_repeat_the_means():
    scores = {"psnr": [20.0, 24.0, 25.0]}
    assert "measured/psnr" not in summary_of(made_result(scores, ["measured"] * 3))
    assert summary_of(made_result(scores, ["measured", "measured", ""]))["measured/psnr"] == 22.0
