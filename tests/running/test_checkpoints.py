from types import SimpleNamespace

import pytest

from dualpixel.errors import DualPixelError
from dualpixel.running.checkpoints import BestCheckpoint


def test_a_score_that_is_not_measured_cannot_choose_the_best_checkpoint():
    logged = {"val/views_psnr": 30.0, "train/loss": 1.0}
    trainer = SimpleNamespace(callback_metrics=logged, sanity_checking=False, state=SimpleNamespace(fn="fit"))
    with pytest.raises(
        DualPixelError, match="--best.monitor val/psnr: not measured here; did you mean 'val/views_psnr'"
    ):
        BestCheckpoint().on_validation_end(trainer, None)
