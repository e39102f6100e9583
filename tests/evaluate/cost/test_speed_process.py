import measuring
import pytest

from dualpixel.errors import DualPixelError
from dualpixel.evaluate.cost import speed_process
from dualpixel.recipes import DPDNetRecipe

NARROW = {"class_path": "dualpixel.nets.DPDNet", "init_args": {"width": 0.05}}
MODEL = {"class_path": "dualpixel.recipes.DPDNetRecipe", "init_args": {"net": NARROW}}


@pytest.fixture
def measure(monkeypatch):
    """Measure in a process that does what is given instead."""

    def measure(instead, passed=lambda: None):
        monkeypatch.setattr(speed_process, "_measure", instead)
        return speed_process.measure_apart({}, (16, 24), "cpu", passed=passed)

    return measure


@pytest.mark.parametrize("ending", [measuring.be_killed, measuring.use_up_memory])
def test_a_process_that_the_system_kills_has_used_up_memory(measure, ending):
    assert measure(ending) is None


def test_another_end_is_an_error(measure):
    with pytest.raises(DualPixelError, match="16x24 on cpu failed: its process ended with 3"):
        measure(measuring.leave)
    passed = []
    with pytest.raises(DualPixelError, match="16x24 on cpu failed: ValueError: a pass that fails"):
        measure(measuring.fail, lambda: passed.append(1))
    assert passed == [1]


class Sent(list):
    send = list.append


def test_the_process_tells_of_each_pass_and_then_what_it_found():
    sent = Sent()
    speed_process._measure(MODEL, (16, 32), "cpu", "bf16-mixed", 1, sent)
    assert sent[:-1] == ["passed"] * 7
    assert sent[-1].precision == "bf16-mixed" and {"enc1", "out"} < set(sent[-1].blocks)


@pytest.mark.parametrize(("error", "told"), [(MemoryError(), None), (ValueError("no"), "ValueError: no")])
def test_the_process_tells_memory_that_is_used_up_from_what_fails(monkeypatch, error, told):
    def refuse(self, batch):
        raise error

    monkeypatch.setattr(DPDNetRecipe, "forward", refuse)
    sent = Sent()
    speed_process._measure(MODEL, (16, 32), "cpu", "32-true", 0, sent)
    assert sent == [told]
