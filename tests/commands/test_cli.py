import shutil
import subprocess
import sys

import pytest
from command_line import TOP, refused, run_module

import dualpixel
from dualpixel.cli import TOOLS, TRAINING, main
from dualpixel.data.index import load_index


@pytest.mark.parametrize("arguments", [["--help"], ["data", "list"], ["data", "show", "dpdd"], ["data", "--help"]])
def test_commands_that_need_no_torch_do_not_import_it(arguments):
    code = (
        "import sys; sys.path.insert(0, 'src'); from dualpixel.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'lightning', 'wandb', 'matplotlib', 'webdataset', 'kornia'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_launcher_runs_the_checkout_and_returns_status_0(capsys):
    done = run_module("--help")
    assert done.returncode == 0, done.stderr
    for name in [*TRAINING, *TOOLS]:
        assert name in done.stdout


def test_importing_the_package_under_another_name_is_loud():
    done = subprocess.run([sys.executable, "-c", "import src.dualpixel"], cwd=TOP, capture_output=True, text=True)
    assert done.returncode != 0 and "import this package as 'dualpixel'" in done.stderr


def test_unknown_commands_and_names_get_near_matches(capsys):
    assert "did you mean 'fit'" in refused(capsys, "fitt")
    assert "did you mean 'verify'" in refused(capsys, "data", "verfy")
    assert "did you mean 'dpdd'" in refused(capsys, "data", "show", "dpddd")
    assert "did you mean 'dpdnet'" in refused(capsys, "fit", "--config", "recipes/dpdnt.yaml")
    assert "did you mean 'train'" in refused(capsys, "data", "preview", "dpdd", "--split", "trian")


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(SystemExit):
        main(["data", "show", "dpd", "--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_prepare_without_a_source_says_where_to_get_the_set(capsys):
    message = refused(capsys, "data", "prepare", "dpdd")
    assert "--source" in message and "github.com/Abdullah-Abuolaim" in message


def test_prepare_from_a_folder_that_is_not_there(capsys, tmp_path):
    assert "does not exist" in refused(capsys, "data", "prepare", "dpdd", "--source", str(tmp_path / "none"))


def test_verify_of_a_set_that_is_not_prepared(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(tmp_path))
    assert "is not prepared" in refused(capsys, "data", "verify", "dpdd")


def test_prepare_verify_and_preview_of_a_real_folder(capsys, tmp_path, small_card, small_source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["data", "prepare", str(small_card), "--source", str(small_source), "--processes", "1"])
    main(["data", "verify", str(small_card)])
    assert "train, val, test as written" in capsys.readouterr().out
    main(["data", "preview", str(small_card), "--split", "test", "--count", "3"])
    sheet = tmp_path / "previews" / "dpdd_small-test.png"
    assert sheet.stat().st_size > 20_000
    tar = next((tmp_path / "shards" / "dpdd_small" / "val").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-10])
    assert "its index says" in refused(capsys, "data", "verify", str(small_card))


def test_a_reader_of_ones_own_is_given_as_a_file(tmp_path, small_source, capsys, monkeypatch):
    from scenes import write_card

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_reader.py").write_text(
        "from dualpixel.data.readers import register\n"
        "from dualpixel.data.readers.folders import FoldersReader\n"
        "@register('mine')\n"
        "class Mine(FoldersReader):\n"
        "    '''The same layout under another name.'''\n"
    )
    options = {
        "patterns": {"left": "{split}_l/source/*.png", "right": "{split}_r/source/*.png"},
        "roots": ["dd_dp_dataset_canon"],
    }
    views_only = {"fields": ["left", "right"], "preparation": {}}  # no sharp image tells which windows to leave out
    card = write_card(tmp_path / "mine.yaml", reader={"name": "mine", "options": options}, **views_only)
    assert "no reader 'mine'" in refused(capsys, "data", "prepare", str(card), "--source", str(small_source))
    main(["data", "prepare", str(card), "--source", str(small_source), "--plugin", "my_reader.py"])
    assert (tmp_path / "shards" / "mine" / "test" / "index.json").is_file()


def test_a_wrong_option_is_named(capsys):
    assert "--sorce" in refused(capsys, "data", "prepare", "dpdd", "--sorce", "x")


def test_convert_makes_weights_that_load(tmp_path, capsys, keras_file):
    main(["convert", "dpdnet", "--source", str(keras_file), "--out", str(tmp_path / "dpdnet.safetensors")])
    assert "channel_order RGB" in capsys.readouterr().out
    assert (
        sum(p.numel() for p in dualpixel.load("dpdnet", weights=tmp_path / "dpdnet.safetensors").parameters())
        == 31_035_151
    )


def test_convert_says_what_is_wrong(tmp_path, capsys, keras_file):
    out = ["--out", str(tmp_path / "x.safetensors")]
    assert "did you mean 'dpdnet'" in refused(capsys, "convert", "dpdnt", "--source", str(keras_file), *out)
    assert "takes 1 file" in refused(capsys, "convert", "dpdnet", "--source", str(keras_file), str(keras_file), *out)
    assert "use convert dpdnet" in refused(capsys, "convert", "dpdnet_single", "--source", str(keras_file), *out)
    assert "required: out" in refused(capsys, "convert", "dpdnet", "--source", str(keras_file))
    (tmp_path / "text.hdf5").write_text("nothing")
    assert "text.hdf5" in refused(capsys, "convert", "dpdnet", "--source", str(tmp_path / "text.hdf5"), *out)
    assert not (tmp_path / "x.safetensors").exists()


def test_deleted_and_truncated_shards_are_written_again(tmp_path, capsys, small_card, small_source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare = ["data", "prepare", str(small_card), "--source", str(small_source), "--processes", "1"]
    main(prepare)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.tar")}
    train, val, test = (next(path for path in first if split in path.name) for split in ("train", "val", "test"))
    train.unlink()
    val.write_bytes(first[val][:-512])
    written = test.stat().st_mtime_ns
    main(prepare)
    main(["data", "verify", str(small_card)])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.tar")} == first
    assert test.stat().st_mtime_ns == written


def test_tars_of_others_get_an_index_by_one_command(tmp_path, capsys, small_shards):
    folder = tmp_path / "theirs" / "train"
    folder.mkdir(parents=True)
    shutil.copy(next((small_shards / "train").glob("*.tar")), folder)
    main(["data", "index", str(folder), "--window", "64", "--overlap", "0.5", "--discard", "0.3"])
    assert "4 scenes in 1 shard, fields left, right, combined, sharp" in capsys.readouterr().out
    assert load_index(folder).preparation["windows"] == {"size": 64, "overlap": 0.5, "discard": 0.3}
    assert "no .tar files" in refused(capsys, "data", "index", str(tmp_path))
