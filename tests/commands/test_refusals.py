"""What the command line says when something is wrong: one or two lines, status 2, nothing damaged."""

import torch
import yaml
from command_line import TOP, refused
from scenes import write_card

from dualpixel.commands.configurations import config_files, resolve_names
from dualpixel.weights.files import load_weights, save_weights

DPDNET = str(TOP / "recipes" / "dpdnet.yaml")


def test_fit_without_the_data_says_how_to_get_them(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, "fit", "--config", "recipes/dpdnet.yaml")
    assert "'dpdd' is not prepared" in message and "data prepare dpdd --source" in message
    assert not (tmp_path / "runs").exists()


def test_unknown_keys_get_near_matches(capsys, tmp_path):
    for content, said in (
        (
            {"model": {"init_args": {"net": {"init_args": {"widht": 0.5}}}}},
            "DPDNet has no argument 'widht'; did you mean 'width'",
        ),
        (
            {"model": {"init_args": {"optimizer": {"init_args": {"learning_rate": 1}}}}},
            "KerasAdam has no argument 'learning_rate'",
        ),
        ({"data": {"init_args": {"batchsize": 2}}}, "did you mean 'batch_size'"),
        ({"trainer": {"max_epoch": 2}}, "did you mean 'max_epochs'"),
        ({"modle": {}}, "did you mean 'model'"),
        ({"model": {"class_path": "dualpixel.recipes.DPDNetRecip"}}, "did you mean"),
        (
            {"data": {"init_args": {"optics": {"f_numer": 2}}}},
            "data.optics: unknown key 'f_numer'; did you mean 'f_number'",
        ),
        ({"data": {"init_args": {"optics": {"sensor": {"shot": 1}}}}}, "data.optics: sensor: unknown key 'shot'"),
        ({"data": {"init_args": {"optics": {"focus": "middle"}}}}, "focus: found 'middle'"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(yaml.safe_dump(content))
        assert said in refused(capsys, "fit", "--config", DPDNET, "--config", str(path))
    for option, said in (
        ("--model.init_args.nett", "DPDNetRecipe has no argument 'nett'; did you mean 'net'"),
        ("--model.net.widht", "DPDNet has no argument 'widht'; did you mean 'width'"),
        ("--data.datset", "did you mean 'dataset'"),
        ("--data.optics.f_numer", "unknown key 'f_numer'; did you mean 'f_number'"),
        ("--data.optics.mode", "mode: found 3 (int), expected str"),
        ("--trainer.max_epoch", "did you mean 'max_epochs'"),
        ("--rnu.name", "--rnu.name"),
    ):
        assert said in refused(capsys, "fit", "--config", DPDNET, option, "3")


def test_wrong_weights_are_refused(capsys, overlay, trained, tmp_path, small_shards):
    small = ["--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path)]
    assert "do not fit DPDNet" in refused(
        capsys, "test", *small, "--ckpt_path", str(trained), "--model.net.init_args.width", "0.2"
    )
    (tmp_path / "text.safetensors").write_text("no weights")
    assert "not a weights file" in refused(
        capsys, "test", *small, "--model.init_from", str(tmp_path / "text.safetensors")
    )
    assert "no such file" in refused(capsys, "test", *small, "--model.init_from", str(tmp_path / "none.ckpt"))
    assert "no such file" in refused(capsys, "test", *small, "--ckpt_path", str(tmp_path / "none.ckpt"))


def test_random_weights_are_not_scored(capsys, overlay):
    assert "test needs weights" in refused(capsys, "test", "--config", DPDNET, "--config", overlay)


def test_a_checkpoint_of_another_stream_is_not_resumed(capsys, overlay, trained):
    assert "effective batch 4, this run has 2" in refused(
        capsys, "fit", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--data.batch_size", "2",
        "--trainer.max_epochs", "3",
    )  # fmt: skip


def test_a_recipe_refuses_data_without_its_fields(capsys, overlay, small_source, tmp_path):
    from dualpixel.data.prepare import prepare
    from dualpixel.data.registry import get_card

    patterns = {"combined": "{split}_c/source/*.png", "sharp": "{split}_c/target/*.png"}
    card = write_card(
        tmp_path / "single.yaml",
        fields=list(patterns),
        reader={"name": "folders", "options": {"patterns": patterns, "roots": ["dd_dp_dataset_canon"]}},
    )
    prepare(get_card(card), small_source, tmp_path / "single", processes=1)
    data = ["--data.dataset", str(card), "--data.root", str(tmp_path / "single"), "--run.root", str(tmp_path)]
    message = refused(capsys, "fit", "--config", DPDNET, "--config", overlay, *data)
    assert "needs left, right, sharp" in message and "has no left, right" in message


def test_no_recipe_at_all(capsys):
    assert "no recipe is given" in refused(capsys, "fit")
    assert "no recipe is given" in refused(capsys, "fit", "--config", "overlays/quickstart")
    assert "given by --config dpdnet" in refused(capsys, "fit", "dpdnet")


def test_a_run_is_never_begun_over_another(capsys, overlay, trained):
    before = (trained / "config.yaml").read_bytes(), (trained / "checkpoints" / "last.ckpt").read_bytes()
    arguments = [
        "fit",
        "--config",
        DPDNET,
        "--config",
        overlay,
        "--run.root",
        str(trained.parent),
        "--run.name",
        trained.name,
    ]
    assert "holds the checkpoints of another run" in refused(capsys, *arguments)
    refused(capsys, *arguments, "--ckpt_path", str(trained), "--data.batch_size", "2", "--trainer.max_epochs", "3")
    assert before == ((trained / "config.yaml").read_bytes(), (trained / "checkpoints" / "last.ckpt").read_bytes())
    assert not list(trained.glob("config-resumed*"))


def test_shards_of_another_card_are_not_scored_under_its_name(capsys, overlay, trained, tmp_path):
    other = write_card(tmp_path / "other.yaml")
    test = ["test", "--config", DPDNET, "--config", overlay, "--ckpt_path", str(trained), "--run.root", str(tmp_path)]
    assert "holds data set dpdd_small, the card other says other" in refused(
        capsys, *test, "--data.dataset", str(other)
    )
    newer = write_card(tmp_path / "dpdd_small.yaml", version="2")
    assert "holds version 1, the card dpdd_small says 2" in refused(capsys, *test, "--data.dataset", str(newer))


def test_mistakes_on_the_command_line_get_short_answers(capsys, overlay, trained, tmp_path):
    fit = ["fit", "--config", DPDNET, "--config", overlay, "--run.root", str(tmp_path)]
    test = ["test", *fit[1:]]
    weights = tmp_path / "w.safetensors"
    state_dict, metadata = load_weights(trained / "checkpoints" / "last.ckpt")
    save_weights(weights, state_dict, metadata)
    torch.save(state_dict, tmp_path / "plain.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((trained / "checkpoints" / "last.ckpt").read_bytes()[:50_000])
    for said, arguments in {
        "give it by --model.init_from": [*test, "--ckpt_path", str(weights)],
        "holds weights, not a checkpoint": [*test, "--ckpt_path", str(tmp_path / "plain.ckpt")],
        "truncated, damaged": [*test, f"--ckpt_path={tmp_path / 'cut.ckpt'}"],
        "data.batch_size 0: must be at least 1": [*fit, "--data.batch_size", "0"],
        "data.crop_size 0: must be at least 1": [*fit, "--data.crop_size", "0"],
        "data.crop_size (48, 0): must be at least 1": [*fit, "--data.crop_size", "[48, 0]"],
        "data.crop_size 48x72 is larger than the 64x64 pixels that dpdd_small": [*fit, "--data.crop_size", "[48, 72]"],
        "data.num_workers -1": [*fit, "--data.num_workers", "-1"],
        "lpips_weights nope": [*test, "--ckpt_path", str(trained), "--scores.lpips_weights", "nope"],
        "width=-1": [*fit, "--model.net.width", "-1"],
        "width": [*fit, "--model.net.width", "abc"],
        "no protocol 'dpdnet-8bit'": [*fit, "--scores.protocol", "dpdnet-8bit"],
        "did you mean 'monitor'": [*fit, "--best.moniter", "val/psnr"],
        "did you mean 'DPDNetRecipe'": [*fit, "--model", "DPDNetRecip"],
        "trainer.precision bf16-true": [*fit, "--trainer.precision", "bf16-true"],
    }.items():
        assert said in refused(capsys, *arguments), arguments


def test_files_are_laid_over_one_another_in_the_order_they_are_given():
    given = resolve_names(["fit", "--config=dpdnet", "-c", "overlays/quickstart", "--config=dpdnet_single"])
    assert [path.stem for path in config_files(given)] == ["dpdnet", "quickstart", "dpdnet_single"]
