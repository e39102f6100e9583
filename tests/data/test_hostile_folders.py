"""Folders made to do harm: each is refused in a line, nothing is started, nothing is written outside."""

import json
import subprocess
import sys

import pytest
from command_line import refused
from hostile_files import LAUGHS, OBJECT, tar_of
from tiny_shards import make_tiny_set

from dualpixel import DualPixelError
from dualpixel.data.index import INDEX
from dualpixel.data.joining import join
from dualpixel.data.registry import get_card
from dualpixel.files import locked

PLAN = {"request": "x", "dataset": "x", "version": "1", "split": "train", "preparation": {}, "parts": 1}
PLAN["shards"] = [{"scenes": 1, "part": 1}]


class TestFolders:
    """Folders that somebody else filled, with links in them that lead elsewhere."""

    def test_a_lock_is_not_taken_on_what_a_link_leads_to(self, inside):
        target = inside.parents[1] / "canary" / "new"
        (inside / ".lock").symlink_to(target)
        with pytest.raises(DualPixelError, match="is a link"), locked(inside):
            pass
        assert not target.exists()

    def test_notes_are_not_written_where_a_link_leads(self, inside, small_card, small_source):
        from dualpixel.data.prepare import prepare

        (inside / "out" / "train").mkdir(parents=True)
        (inside / "out" / "train" / ".parts").symlink_to(inside.parents[1] / "canary" / "folder")
        with pytest.raises(DualPixelError, match="is a link"):
            prepare(get_card(small_card), small_source, inside / "out", processes=1)

    STRANGE = [
        {"dataset": "../../canary/x"},
        {"split": "../x"},
        *({"shards": [{"scenes": 1, "part": one}]} for one in ("x", None)),
    ]

    @pytest.mark.parametrize("plan", [{}, *STRANGE])
    def test_parts_of_a_stranger_are_refused(self, inside, plan, capsys):
        folder = inside / "x" / "train" / ".parts"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps({**PLAN, **plan} if plan else {}))
        refused(capsys, "data", "index", str(inside / "x"))
        (folder / "000000.json").write_text('{"request": "x", "evil": 1}')
        refused(capsys, "data", "index", str(inside / "x"))
        assert not list(inside.rglob(INDEX))

    def test_a_note_that_names_a_shard_elsewhere_makes_no_index(self, inside):
        split = inside / "x" / "train"
        (split / ".parts").mkdir(parents=True)
        (split / ".parts" / "plan.json").write_text(json.dumps(PLAN))
        (split / "x-train-000000.tar").write_bytes(b"sings")
        shard = {"name": "../../../canary/train.tar", "bytes": 5, "sha256": "0" * 64}
        (split / ".parts" / "000000.json").write_text(json.dumps({"request": "x", "shard": shard, "samples": []}))
        with pytest.raises(DualPixelError, match="is not allowed"):
            join(inside / "x")
        assert not (split / INDEX).exists()

    def test_a_finished_set_is_cleared_of_links_not_of_what_they_lead_to(self, inside, tmp_path):
        _, root = make_tiny_set(inside, shards=1)
        for split in ("train", "val", "test"):
            (root / split / ".parts").symlink_to(tmp_path / "canary" / "folder")
            (root / split / ".x.1.part").symlink_to(tmp_path / "canary" / "file")
        assert len(join(root)) == 3
        assert sorted(path.name for path in (root / "train").iterdir()) == [INDEX, "tiny-train-000000.tar"]


def test_a_process_with_hostile_files_ends_with_status_2_and_no_traceback(tmp_path):
    """As a user sees it, for one of each kind."""
    folder = tmp_path / "theirs" / "train"
    folder.mkdir(parents=True)
    tar_of(folder / "a.tar", [("s.left.npy", OBJECT)])
    card = tmp_path / "card.yaml"
    card.write_text(LAUGHS)
    code = "import sys; from dualpixel.cli import main; main(sys.argv[1:])"
    for arguments in (["data", "index", str(folder)], ["data", "show", str(card)]):
        found = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert found.returncode == 2 and "Traceback" not in found.stderr
        assert [line[:7] for line in found.stderr.splitlines()][-1] == "error: "
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.yaml", "theirs"]
