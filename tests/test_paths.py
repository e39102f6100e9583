from pathlib import Path

import pytest
from command_line import refused

from dualpixel.data.cache import ShardCache
from dualpixel.data.remote import prepared_root
from dualpixel.errors import DualPixelError
from dualpixel.files import locked
from dualpixel.paths import local_folder, shards_home


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_is_the_users_folder_where_no_shell_says_so(home, monkeypatch):
    assert local_folder("~/one") == prepared_root("one", "~/one") == home / "one"
    assert ShardCache(Path("~/kept")).folder == home / "kept"
    monkeypatch.setenv("DUALPIXEL_SHARDS", "~/all")
    monkeypatch.setenv("DUALPIXEL_CACHE", "~/cache")
    assert prepared_root("one") == home / "all/one" and ShardCache().folder == home / "cache/shards"
    monkeypatch.setenv("DUALPIXEL_SHARDS", "")
    assert shards_home() == Path("shards")


def test_nothing_is_written_into_a_folder_that_is_called_like_an_address(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for address in ("http://127.0.0.1:1/all", "s3://bucket/all", "http:/one/slash"):
        with pytest.raises(DualPixelError, match="an address, where a folder of this machine is needed"):
            local_folder(address)
        for command in (["prepare", "quickstart", "--out", address], ["index", address]):
            assert "an address, where a folder of this machine is needed" in refused(capsys, "data", *command)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DualPixelError, match="cannot be written to .*; name another folder"), locked(tmp_path / "file"):
        pass


def test_no_space_is_not_taken_for_no_permission(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"), locked(tmp_path / "new"):
        pass
