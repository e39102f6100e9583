import cv2
import numpy as np
import pytest
import torch
from nimat_parts import SHIFT, Shifting, ShiftingRecipe

import dualpixel
from dualpixel.errors import DualPixelError
from dualpixel.nets.mdp import MDP
from dualpixel.running.nimat import ORDER, Canvas, check_predicts_views, eight_views, plan_runs, predict_views

INTERPOLATED = 0 if int(cv2.__version__.split(".")[0]) >= 5 else 6
"""Levels of 255 by which a noisy image turned by 45 degrees may differ from the stored one, which OpenCV 5.0 made: OpenCV 4
interpolates at whole 32nds of a pixel. Measured with 4.11: 5."""


@pytest.fixture(scope="module")
def stored(reference):
    return np.load(reference / "mdp_extras.npz")


@pytest.fixture
def shifting():
    recipe = ShiftingRecipe(Shifting()).eval()
    recipe.net.shift.fill_(SHIFT)
    return recipe


def photograph(height, width, kind=np.uint8):
    """Smooth noise in colour, of full contrast."""
    noise = np.random.default_rng(height).random((height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return np.rint(smooth * np.iinfo(kind).max).astype(kind)


def views_of(recipe, image, tile=1024):
    canvas = Canvas(*image.shape[:2])
    return dict(eight_views(recipe, image, canvas, plan_runs(canvas, recipe, tile)))


def psnr(one, other):
    error = np.mean((one.astype(float) - other) ** 2) / float(np.iinfo(one.dtype).max) ** 2
    return -10 * np.log10(max(error, 1e-12))


def test_the_network_is_given_what_the_authors_program_gives_it(stored):
    image = stored["nimat_image"]
    canvas = Canvas(*image.shape[:2])
    assert canvas.padding == stored["nimat_pad"]
    rectangle = (canvas.top, canvas.top + canvas.height, canvas.left, canvas.left + canvas.width)
    assert rectangle == tuple(stored["nimat_crop"])
    for angle, batch in zip(ORDER, stored["nimat_batch"], strict=True):
        difference = np.abs(canvas.turn(image, angle) - 255 * batch.astype(np.float64))
        assert difference.max() <= (INTERPOLATED if angle % 90 else 0) + 1e-4


def test_views_are_made_of_predictions_as_in_the_authors_program(stored):
    image = stored["nimat_image"]
    predictions = iter(torch.from_numpy(stored["nimat_pred"]).permute(0, 3, 1, 2)[:, None])

    class Given(ShiftingRecipe):
        def forward(self, batch):
            left, right, sharp = next(predictions).split(3, dim=1)
            return {"left": left, "right": right, "sharp": sharp}

    views = views_of(Given(Shifting()), image)
    assert sorted(views) == list(range(8))
    for number, view in views.items():
        difference = np.abs(view.astype(int) - stored["nimat_views"][number])
        assert view.dtype == np.uint8 and difference.max() <= (INTERPOLATED if number % 2 else 0)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_views_move_counter_clockwise_in_a_circle(shifting, kind):
    image = photograph(70, 96, kind)
    views = views_of(shifting, image, tile=64)
    inner = (slice(10, -10), slice(10, -10))
    for number, view in views.items():
        assert view.shape == image.shape and view.dtype == kind
        angle = np.pi / 4 * (number - 2)  # the second view is the right one; rows are counted downwards
        matrix = np.array([[1, 0, SHIFT * np.cos(angle)], [0, 1, -SHIFT * np.sin(angle)]])
        expected = cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_CUBIC)
        assert psnr(view[inner], expected[inner]) > (30 if number % 2 else 60)
        opposite = cv2.warpAffine(image, matrix * [[1, 1, -1]], image.shape[1::-1])
        assert psnr(view[inner], opposite[inner]) < 20


def test_without_motion_the_upright_views_are_the_image(shifting):
    shifting.net.shift.fill_(0)
    image = photograph(41, 30, np.uint16)
    views = views_of(shifting, image)
    for number in (0, 2, 4, 6):
        assert np.array_equal(views[number], image)


def test_values_are_truncated_and_clamped():
    class Given(ShiftingRecipe):
        def forward(self, batch):
            values = torch.full_like(batch["combined"], 0.99999)
            return {"left": values, "right": values * 2 - 3 * (batch["combined"] > 0)}

    image = np.zeros((16, 16, 3), np.uint8)
    image[:8] = 1
    canvas = Canvas(11, 11)
    assert canvas.padded_side == 16
    (tiles, *_) = plan_runs(canvas, ShiftingRecipe(Shifting()), 16).values()
    views = predict_views(Given(Shifting()), image, tiles)
    assert (views["left"] == 254).all()
    assert (views["right"][:8] == 0).all() and (views["right"][8:] == 255).all()


@pytest.mark.parametrize("size", [(150, 420), (330, 200)])
def test_tiles_that_touch_nothing_that_is_kept_are_left_out_and_change_nothing(size):
    torch.manual_seed(0)
    net = MDP(width=0.02, residual=True)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.15)

    class Narrow(ShiftingRecipe):
        def forward(self, batch):
            return self.net(batch["combined"])

    recipe = Narrow(net).eval()
    image = photograph(*size, np.uint16)
    canvas = Canvas(*size)
    plan = plan_runs(canvas, recipe, 64)
    every = (-(-canvas.padded_side // 64)) ** 2
    assert sum(map(len, plan.values())) < 0.75 * 4 * every
    done = []
    views = dict(eight_views(recipe, image, canvas, plan, lambda: done.append(1)))
    assert len(done) == sum(map(len, plan.values()))
    whole = views_of(recipe, image, tile=10_000)
    for number, view in views.items():
        # float32 rounds differently in windows of another size, and a step of 65535 may be lost by that
        difference = np.abs(view.astype(int) - whole[number])
        assert difference.max() <= 4 and np.ptp(view) > 5000


def test_needed_pixels_are_all_that_turning_back_looks_at():
    canvas = Canvas(57, 90)
    for angle in (0, 45, 90, 135, 22.5):
        needed = canvas.needed(angle)
        noise = np.random.default_rng(0).integers(0, 256, (*needed.shape, 3)).astype(np.uint8)
        altered = np.where(needed[..., None], noise, 255 - noise)
        assert not needed.all()
        assert np.array_equal(canvas.turn_back(noise, angle), canvas.turn_back(altered, angle))


def test_a_network_that_does_not_say_how_far_it_looks_is_given_the_whole_canvas(shifting, monkeypatch):
    monkeypatch.delattr(Shifting, "halo")
    canvas = Canvas(60, 90)
    assert [len(tiles) for tiles in plan_runs(canvas, shifting, 16).values()] == [1, 1, 1, 1]


def test_recipes_without_views_of_one_image_are_refused(shifting):
    check_predicts_views(shifting)
    with pytest.raises(DualPixelError, match="recipe dpdnet needs left, right; NIMAT takes"):
        check_predicts_views(dualpixel.load("dpdnet", width=0.05))
    with pytest.raises(DualPixelError, match="recipe dpdnet_single predicts sharp alone; NIMAT takes"):
        check_predicts_views(dualpixel.load("dpdnet_single", width=0.05))


def test_an_image_too_large_to_be_turned_is_refused():
    with pytest.raises(DualPixelError, match="its diagonal is 32768 pixels"):
        Canvas(1, 32767)
    assert Canvas(3, 4).side == 5 and Canvas(1, 1).side == 2 and Canvas(6000, 4000).side == 7212
