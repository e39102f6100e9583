import cv2
import numpy as np
import pytest
import torch
from rgbd_scenes import write_rgbd, write_rgbd_card

from dualpixel import DualPixelError
from dualpixel.cli import main
from dualpixel.data.optics_sheet import DETAIL, LEFT_COLOUR, RIGHT_COLOUR, blurring_most, busiest, draw_optics_sheet
from dualpixel.data.reading import PreparedSplit
from dualpixel.data.simulated import SimulatedViews


def test_preview_of_a_set_with_depth_draws_a_second_sheet(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        write_rgbd(tmp_path / "source" / split, [split])
    card = str(write_rgbd_card(tmp_path / "rgbd_small.yaml"))
    monkeypatch.setenv("DUALPIXEL_SHARDS", str(tmp_path / "shards"))
    main(["data", "prepare", card, "--source", str(tmp_path / "source"), "--processes", "1"])
    (tmp_path / "camera.yaml").write_text("mode: halfdisc\nf_number: 1.0\n")
    capsys.readouterr()
    main(["data", "preview", card, "--split", "val", "--camera", "camera.yaml"])
    assert capsys.readouterr().out.split() == ["previews/rgbd_small-val.png", "previews/rgbd_small-val-optics.png"]
    sheet = cv2.imread("previews/rgbd_small-val-optics.png")[:, :, ::-1].astype(int)
    for colour in (LEFT_COLOUR, RIGHT_COLOUR):  # point spread functions of both views
        distance = np.abs(sheet - np.round(np.array(colour) * 255)).max(-1)
        assert (distance <= 2).sum() > 1000


def test_a_set_without_depth_is_refused(small_shards, tmp_path):
    with pytest.raises(DualPixelError, match="renders from sharp and depth; dpdd_small test has no depth"):
        draw_optics_sheet(PreparedSplit(small_shards / "test"), tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_the_camera_of_the_sheet_blurs_as_much_before_the_focus_plane_as_behind_it():
    views = blurring_most(SimulatedViews(f_number=(2.0, 8.0), focal_length_m=(0.03, 0.06), depth_scale=0.5), 1.0, 4.0)
    assert (views.f_number, views.focal_length_m) == (2.0, 0.06)
    assert views.focus * 0.5 == pytest.approx(1.6)


def test_the_detail_is_where_the_picture_changes_most():
    picture = torch.zeros(3, 300, 400)
    picture[:, 150:200, 250:300] = torch.rand(50, 50)
    (top, bottom), (left, right) = busiest(picture, 1), busiest(picture, 2)
    assert top <= 150 and bottom >= 200 and left <= 250 and right >= 300
    assert bottom - top == right - left == DETAIL
    assert busiest(picture[:, :40], 1) == (0, 40)
