"""The resolved configuration, saved beside what it produced."""

from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer

from dualpixel.files import atomic
from dualpixel.running.folder import InRunFolder


class SavedConfiguration(InRunFolder):
    """Writes ``config.yaml`` when training begins; a resumed run, `test` and the others write files of their own.

    Args:
        content: the configuration.
        command: fit, validate, test or predict.
        resumed: whether `fit` goes on from a checkpoint.
    """

    def __init__(self, content: dict[str, Any], command: str, resumed: bool) -> None:
        super().__init__()
        self.content, self.command = content, command
        self.stem = f"config-{command}" if command != "fit" else "config-resumed" if resumed else "config"
        self._saved = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, now that everything was checked: what is refused leaves no trace."""
        self._save(trainer, "fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self._save(trainer, "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self._save(trainer, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self._save(trainer, "predict")

    def _save(self, trainer: Trainer, command: str) -> None:
        if command != self.command or self._saved or not trainer.is_global_zero:
            return
        number, path = 1, self.folder / f"{self.stem}.yaml"
        while path.exists():
            number += 1
            path = self.folder / f"{self.stem}-{number}.yaml"
        with atomic(path) as beside:
            beside.write_text(yaml.safe_dump(self.content, sort_keys=False), encoding="utf-8")
        self._saved = True
