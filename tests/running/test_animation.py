import cv2
import numpy as np
import pytest
from PIL import Image

from dualpixel.errors import DualPixelError
from dualpixel.running.animation import check_animation, interpolate_turn, to_frame, write_gif, write_mp4, write_webp


def turn(count, radius, size=96, blur=2.0, kind=np.uint8, softness=0.0):
    """A texture moved on a circle, exactly, since it is periodic; every second frame made softer by a Gaussian."""
    noise = np.random.default_rng(3).random((size, size, 3))
    frequency = np.fft.fftfreq(size)
    rows, columns = frequency[:, None, None], frequency[None, :, None]

    def filtered(row, column, sigma):
        transfer = np.exp(-2j * np.pi * (rows * row + columns * column))
        transfer = transfer * np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
        return np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) * transfer, axes=(0, 1)).real

    frames = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        sigma = np.hypot(blur, softness * (number % 2))
        frames.append(filtered(-radius * np.sin(angle), radius * np.cos(angle), sigma))
    still = filtered(0, 0, blur)
    frames = 0.5 + (np.stack(frames) - 0.5) * 0.4 / np.abs(still - 0.5).max()
    return np.rint(np.clip(frames, 0, 1) * np.iinfo(kind).max).astype(kind)


def psnr(one, other):
    return -10 * np.log10(np.mean((one.astype(float) - other) ** 2) / float(np.iinfo(one.dtype).max) ** 2)


def linear(views, count):
    places = np.arange(count) * 8 / count
    first = places.astype(int)
    part = (places - first)[:, None, None, None]
    return (1 - part) * views[first % 8] + part * views[(first + 1) % 8]


@pytest.mark.parametrize(("radius", "least"), [(0.5, 54), (1.0, 52), (2.0, 47)])
def test_frames_between_views_are_the_texture_moved_on_its_circle(radius, least):
    views, true = turn(8, radius, kind=np.uint16), turn(32, radius, kind=np.uint16)
    frames = interpolate_turn(views, 32)
    assert frames.dtype == np.uint16 and frames.shape == true.shape
    assert min(psnr(one, other) for one, other in zip(frames, true, strict=True)) > least
    assert psnr(frames, true) > psnr(linear(views, 32).astype(np.uint16), true) + 5


def sharpness(frames):
    return np.array([np.mean(np.diff(one.astype(float), axis=1) ** 2) for one in frames])


def test_views_that_are_softer_by_turns_do_not_flicker():
    still = turn(8, 0.0, softness=0.7, kind=np.uint16)
    assert sharpness(still).std() > 0.04 * sharpness(still).mean()
    frames = interpolate_turn(still, 32)
    assert (frames == frames[0]).all()
    moved = turn(8, 1.0, softness=0.7, kind=np.uint16)
    flicker = sharpness(moved).std()
    assert sharpness(interpolate_turn(moved, 32)).std() < 0.35 * flicker
    assert sharpness(linear(moved, 32)).std() > 0.6 * flicker


def test_the_interpolated_turn_is_periodic_and_stays_in_range():
    views = np.random.default_rng(0).choice([0, 255], (8, 20, 30, 3)).astype(np.uint8)
    frames = interpolate_turn(views, 16)
    assert np.array_equal(interpolate_turn(np.roll(views, 3, axis=0), 16), np.roll(frames, 6, axis=0))
    assert frames.min() == 0 and frames.max() == 255


def test_bands_of_rows_give_the_same_frames(monkeypatch):
    views = turn(8, 2.0)
    frames = interpolate_turn(views, 12)
    monkeypatch.setattr("dualpixel.running.animation.AT_ONCE", 12 * 96 * 3 * 7)
    assert np.array_equal(interpolate_turn(views, 12), frames)


def test_frames_are_shrunk_by_areas_and_to_8_bits():
    view = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    means = view.reshape(2, 10, 3, 10, 3).mean((1, 3))
    assert np.abs(to_frame(view, 3) - means / 257).max() <= 0.51
    assert np.array_equal(to_frame(view, 30), np.rint(view / 257))
    assert np.array_equal(to_frame(to_frame(view, 30), 31), to_frame(view, 31))
    assert to_frame(np.zeros((20000, 2, 3), np.uint8), 960).shape == (16383, 2, 3)


@pytest.fixture(scope="module")
def half_still():
    """Thirty-two frames; the left half stands still."""
    frames = turn(32, 2.0, size=101)
    frames[:, :, :50] = frames[0, :, :50]
    return frames


def played(path):
    """Frames of a GIF or WebP file as RGB, and their milliseconds."""
    with Image.open(path) as opened:
        assert opened.info["loop"] == 0
        frames, times = [], []
        for number in range(opened.n_frames):
            opened.seek(number)
            frames.append(np.array(opened.convert("RGB")))  # decodes, which sets the duration
            times.append(opened.info["duration"])
    return np.stack(frames), times


def test_a_gif_holds_the_turn_and_what_stands_still_does_not_flicker(tmp_path, half_still):
    write_gif(tmp_path / "turn.gif", half_still, 1.0)
    frames, times = played(tmp_path / "turn.gif")
    assert frames.shape == half_still.shape and sum(times) == 1000 and set(times) == {30, 40}
    assert psnr(frames, half_still) > 31
    assert (frames[:, :, :50] == frames[0, :, :50]).all()
    assert len(np.unique(frames.reshape(-1, 3), axis=0)) <= 256
    assert [path.name for path in tmp_path.iterdir()] == ["turn.gif"]


def test_a_gif_of_few_colours_is_exact_but_for_dithering_that_is_not_needed(tmp_path):
    frames = np.zeros((8, 16, 16, 3), np.uint8)
    for number in range(8):
        frames[number, number : number + 4, 3:9] = (250, 10 * number, 30)
    write_gif(tmp_path / "few.gif", frames, 0.8)
    found, times = played(tmp_path / "few.gif")
    assert np.array_equal(found, frames) and times == [100] * 8


def test_a_webp_holds_the_turn(tmp_path, half_still):
    write_webp(tmp_path / "turn.webp", half_still, 1.0)
    frames, times = played(tmp_path / "turn.webp")
    assert frames.shape == half_still.shape and sum(times) == 1000
    assert psnr(frames, half_still) > 31


def test_a_webp_has_no_pulse_where_a_frame_would_be_coded_as_a_whole(tmp_path):
    write_webp(tmp_path / "slow.webp", turn(32, 0.3), 1.0)
    frames, _ = played(tmp_path / "slow.webp")
    steps = np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))
    assert steps.max() < 2 * np.median(steps)


def test_an_mp4_holds_whole_turns_of_even_frames(tmp_path, half_still):
    write_mp4(tmp_path / "turn.mp4", half_still, 1.6)
    video = cv2.VideoCapture(str(tmp_path / "turn.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    frames = []
    while True:
        found, frame = video.read()
        if not found:
            break
        frames.append(frame[:, :, ::-1])
    frames = np.stack(frames)
    assert frames.shape == (4 * 32, 102, 102, 3)
    assert psnr(frames[32:64, :101, :101], half_still) > 30
    assert psnr(frames[64:96], frames[32:64]) > 30


def test_animations_that_cannot_be_shown_are_refused():
    check_animation(50, 1.0, 960)
    for count, seconds, width, said in (
        (51, 1.0, 960, "at least --seconds 1.02"),
        (8, float("nan"), 960, "shorter than 0.02 s"),
        (7, 1.0, 960, "at least 8"),
        (8, 1.0, 0, "from 1 to 16383"),
        (8, 1.0, 16384, "from 1 to 16383"),
    ):
        with pytest.raises(DualPixelError, match=said):
            check_animation(count, seconds, width)
