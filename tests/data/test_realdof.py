import numpy as np
import pytest
import torch
from command_line import TOP, refused
from scenes import photograph, views
from zipped import pack

from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data import DualPixelData
from dualpixel.data.images import read_image, write_png
from dualpixel.data.index import load_index
from dualpixel.data.prepare import prepare
from dualpixel.data.registry import get_card

KEYS = [f"{number:02d}" for number in range(1, 51)]
SIZE = (40, 56)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Fifty pairs of 8 bits, the sharp ones named otherwise than the blurry ones."""
    top = tmp_path_factory.mktemp("realdof")
    for number, key in enumerate(KEYS):
        scene = {name: (image >> 8).astype(np.uint8) for name, image in views(photograph(number, SIZE)).items()}
        write_png(top / f"RealDOF/source/{key}.png", scene["combined"])
        write_png(top / f"RealDOF/target/sharp_{key}.png", scene["sharp"])
    return top


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    """The set's own card, by the command."""
    out = tmp_path_factory.mktemp("shards") / "realdof"
    main(["data", "prepare", "realdof", "--source", str(source), "--out", str(out), "--processes", "1"])
    return out


def test_every_value_reaches_the_stream(source, prepared):
    data = DualPixelData("realdof", prepared, num_workers=0)
    data.require("test", ["combined"], ["sharp"])
    batches = list(data.test_dataloader())
    assert [key for batch in batches for key in batch["key"]] == KEYS
    for batch in batches:
        (key,) = batch["key"]
        assert set(batch) == {"combined", "sharp", "key", "group", "index"} and batch["combined"].dtype == torch.uint8
        for name, file in (("combined", f"source/{key}.png"), ("sharp", f"target/sharp_{key}.png")):
            assert np.array_equal(batch[name][0].numpy(), read_image(source / "RealDOF" / file, 8))


def test_the_archive_gives_the_same_shards(source, prepared, tmp_path):
    out = prepare(get_card("realdof"), pack(source, tmp_path / "RealDOF.zip").parent, tmp_path / "out", processes=1)
    assert load_index(out / "test").shards == load_index(prepared / "test").shards


def test_the_commands_say_what_there_is(prepared, monkeypatch, capsys):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(prepared.parent))
    monkeypatch.setenv("COLUMNS", "400")
    main(["data", "show", "realdof"])
    said = capsys.readouterr().out
    assert "test: 50 scenes" in said and "fields: combined, sharp" in said
    assert f"fingerprint {load_index(prepared / 'test').fingerprint}" in said
    assert "not verified" in said and "lee2021iterative" in said
    main(["data", "list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " realdof " in line]
    assert "50 test" in line and "combined, sharp" in line and "yes" in line


def test_recipes_for_two_views_refuse_the_set_before_the_first_batch(prepared):
    data = DualPixelData("realdof", prepared, num_workers=0)
    with pytest.raises(
        DualPixelError, match="the recipe needs left, right; realdof test has no left, right .it has combined"
    ):
        data.require("test", ["left", "right"], ["sharp"])


def test_there_is_nothing_to_train_on(prepared, tmp_path, capsys):
    fit = ["fit", "--config", str(TOP / "recipes" / "dpdnet_single.yaml"), "--data.dataset", "realdof"]
    message = refused(capsys, *fit, "--data.root", str(prepared), "--run.root", str(tmp_path))
    assert "data set realdof has no split 'train'" in message
