import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from command_line import TOP, refused
from nimat_parts import write_shifting
from PIL import Image

from dualpixel.cli import main
from dualpixel.data.images import read_image, write_png
from dualpixel.nets import MDP
from dualpixel.weights.files import save_weights

FILES = [*(f"view_{number}.png" for number in range(8)), "nimat.gif", "nimat.webp", "nimat.mp4"]


@pytest.fixture
def shifting(tmp_path):
    recipe, weights = write_shifting(tmp_path)
    return ["--recipe", recipe, "--weights", weights]


def photograph(path, kind=np.uint8, size=(60, 91)):
    noise = np.random.default_rng(5).random((*size, 3))
    image = np.rint(cv2.GaussianBlur(noise, (0, 0), 2) * np.iinfo(kind).max).astype(kind)
    write_png(path, image)
    return image


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_photograph_becomes_eight_views_and_three_animations(tmp_path, capsys, monkeypatch, shifting, kind):
    monkeypatch.chdir(tmp_path)
    image = photograph(tmp_path / "my photo.png", kind)
    main(["nimat", "my photo.png", *shifting, "--tile", "48"])
    out = tmp_path / "my photo_nimat"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    said = capsys.readouterr().out.strip()
    assert len(said.splitlines()) == 1
    assert said.startswith(f"my photo_nimat: view_0.png ... view_7.png (91 x 60, {8 * image.itemsize} bits)")
    assert said.endswith("play the eight views")
    right, left = (read_image(out / f"view_{number}.png", 8 * image.itemsize) for number in (2, 6))
    assert np.array_equal(right[:, 3:], image[:, :-3]) and np.array_equal(left[:, :-3], image[:, 3:])
    for name in ("nimat.gif", "nimat.webp"):
        with Image.open(out / name) as opened:
            assert opened.n_frames == 8 and opened.size == (91, 60)
    views = np.stack([read_image(out / f"view_{number}.png").astype(float) for number in range(8)]) * 255
    with Image.open(out / "nimat.webp") as opened:
        for number in range(8):
            opened.seek(number)
            frame = np.array(opened.convert("RGB")).astype(float) * np.iinfo(kind).max
            assert np.argmin(np.mean((views - frame) ** 2, axis=(1, 2, 3))) == number


def test_the_recipe_of_the_paper_is_the_default(tmp_path, capsys):
    image = photograph(tmp_path / "photo.png")
    net = MDP(width=0.05, residual=True)  # starts as the identity
    save_weights(tmp_path / "narrow.safetensors", net.state_dict(), {"options": json.dumps(net.options)})
    weights = ["--weights", str(tmp_path / "narrow.safetensors")]
    main(["nimat", str(tmp_path / "photo.png"), *weights, "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert "play the eight views" in capsys.readouterr().out
    assert np.array_equal(read_image(tmp_path / "out" / "view_4.png"), image)


def test_a_smooth_turn_has_the_same_views_and_more_frames(tmp_path, capsys, shifting):
    photograph(tmp_path / "photo.png")
    run = ["nimat", str(tmp_path / "photo.png"), *shifting]
    main([*run, "--out", str(tmp_path / "plain")])
    main([*run, "--out", str(tmp_path / "a/smooth"), "--smooth", "24", "--seconds", "1.2", "--animation_width", "40"])
    assert "play 24 frames interpolated between them (ours, not the paper's)" in capsys.readouterr().out
    for name in FILES[:8]:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "a/smooth" / name).read_bytes()
    with Image.open(tmp_path / "a/smooth/nimat.webp") as opened:
        assert opened.n_frames == 24 and opened.size == (40, 26)
        assert opened.load() is not None and opened.info["duration"] == 50


def test_the_progress_bar_counts_the_tiles(tmp_path, capsys, shifting):
    photograph(tmp_path / "photo.png")
    main(["nimat", str(tmp_path / "photo.png"), *shifting, "--out", str(tmp_path / "out"), "--tile", "16"])
    said = capsys.readouterr().err
    done, total = said.split("views ")[1].split()[1].split("/")
    assert done == total and 4 * 20 < int(total) < 4 * 49


def test_grey_images_alpha_and_exif_are_taken_as_viewers_show_them(tmp_path, shifting):
    grey = (np.arange(40)[:, None] + np.arange(30)).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright
    Image.fromarray(grey).save(tmp_path / "grey.png", exif=exif)
    Image.fromarray(np.dstack([grey] * 3 + [grey // 2])).save(tmp_path / "alpha.png")
    for name, upright in (("grey", np.rot90(grey, -1)), ("alpha", grey)):
        main(["nimat", str(tmp_path / f"{name}.png"), *shifting, "--out", str(tmp_path / name)])
        view = read_image(tmp_path / name / "view_2.png", 8)
        assert np.array_equal(view[:, 3:], np.dstack([upright] * 3)[:, :-3])


def test_mistakes_get_short_answers(tmp_path, capsys, shifting):
    photograph(tmp_path / "photo.png", size=(20, 20))
    (tmp_path / "text.png").write_text("no image")
    cv2.imwrite(str(tmp_path / "float.tiff"), np.zeros((20, 20, 3), np.float32))
    (tmp_path / "alone").mkdir()
    alone = write_shifting(tmp_path / "alone", views=False)
    single = MDP(width=0.05, outputs="sharp")
    save_weights(tmp_path / "single.safetensors", single.state_dict(), {"options": json.dumps(single.options)})
    photo, out = str(tmp_path / "photo.png"), ["--out", str(tmp_path / "out")]
    for said, arguments in {
        "nimat needs --weights: train the recipe mdp, or get": [photo],
        "none.png: no such image file": [str(tmp_path / "none.png"), *shifting],
        "not an image that can be decoded": [str(tmp_path / "text.png"), *shifting],
        "no such file; give a .safetensors": [photo, "--recipe", "dpdnet_single", "--weights", str(tmp_path / "none")],
        "expected 8 or 16: save it as a PNG of 16 bits": [str(tmp_path / "float.tiff"), *shifting],
        "recipe shifting predicts sharp alone; NIMAT takes": [photo, "--recipe", alone[0], "--weights", alone[1]],
        "recipe mdp predicts sharp alone": [photo, "--weights", str(tmp_path / "single.safetensors")],
        "did you mean 'dpdnet_single'": [photo, "--recipe", "dpdnet_singel", *shifting[2:]],
        "at least 8, one for each view": [photo, *shifting, "--smooth", "4"],
        "give at least --seconds 2": [photo, *shifting, "--smooth", "100"],
        "an animation 0 pixels wide": [photo, *shifting, "--animation_width", "0"],
        "--tile 0: must be at least 1": [photo, *shifting, "--tile", "0"],
        "is a file; name a folder": [photo, *shifting, "--out", photo],
        "--smoth": [photo, *shifting, "--smoth", "9"],
        "device": [photo, *shifting, "--device", "tpu"],
    }.items():
        assert said in refused(capsys, "nimat", *out, *arguments), arguments
    assert not (tmp_path / "out").exists()


def test_help_names_every_option_and_does_not_import_torch():
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from dualpixel.cli import main\n"
        "try:\n    main(['nimat', '--help'])\n"
        "except SystemExit as stopped:\n"
        "    assert stopped.code == 0 and not {'torch', 'cv2', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for option in ("weights", "recipe", "out", "smooth", "seconds", "animation_width", "tile", "device"):
        assert f"--{option}" in done.stdout
