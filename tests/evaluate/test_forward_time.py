import copy
import time

import torch
from torch import nn

from dualpixel.evaluate.forward_time import ForwardClock, device_name


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.pause = 0.0

    def forward(self, batch):
        time.sleep(self.pause)
        return batch


def test_the_call_is_timed_without_what_stands_around_it():
    slow = Slow()
    around = [
        slow.register_forward_pre_hook(lambda *_: time.sleep(0.2)),
        slow.register_forward_hook(lambda *_: time.sleep(0.2)),
    ]
    clock = ForwardClock(slow, torch.device("cpu"))
    slow.pause = 0.05
    slow({})
    assert 0.05 <= clock.seconds < 0.15
    slow.pause = 0.0
    slow({})
    assert 0 < clock.seconds < 0.05
    for hook in (*around, *clock.hooks):
        hook.remove()
    assert not slow._forward_hooks and not slow._forward_pre_hooks


def test_calls_of_a_copy_are_not_timed():
    slow = Slow()
    clock = ForwardClock(slow, torch.device("cpu"))
    slow({})
    before = clock.seconds
    other = copy.deepcopy(slow)
    other.pause = 0.05
    other({})
    assert clock.seconds == before > 0


def test_the_processor_has_a_name():
    assert device_name(torch.device("cpu")).strip()
