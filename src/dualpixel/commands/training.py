"""`fit | validate | test | predict`: LightningCLI in subclass mode, with the run's folder, scores, panels and loggers in place."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from dualpixel.commands.arguments import spell_out
from dualpixel.commands.configurations import check_settings, explained, last_lists, resolve_names
from dualpixel.errors import DualPixelError
from dualpixel.evaluate.report import best_validation
from dualpixel.evaluate.scores import Scores
from dualpixel.evaluate.sharp_regions.analysis import SharpRegions
from dualpixel.recipes import Recipe
from dualpixel.running.checkpoints import AtomicCheckpoints, BestCheckpoint, LastCheckpoint, check_checkpoint
from dualpixel.running.configuration import SavedConfiguration
from dualpixel.running.diagnostics import Diagnostics
from dualpixel.running.folder import check_new, choose_folder, find_checkpoint, restarted_checkpoint
from dualpixel.running.inspect import Inspect
from dualpixel.running.logged_run import LoggedRun
from dualpixel.running.loggers import WandbOptions, how_to_sync, make_loggers
from dualpixel.running.panels import Panels
from dualpixel.running.predictions import WritePredictions
from dualpixel.running.progress import progress_callback
from dualpixel.running.requeue import Requeue
from dualpixel.running.wandb_logger import RunLogger

ADVERTISED = ("Tip:", "TPU available", "`weights_only` was not set")
"""Log lines of Lightning that say nothing of this run."""


def run(arguments: list[str]) -> None:
    """Run one of the four commands.

    Args:
        arguments: the command and its options.

    Raises:
        DualPixelError: a wrong option, file or setting.
    """
    _quieten(arguments[0])
    arguments = resolve_names(arguments)
    arguments = spell_out(arguments, {"--protocol": "--scores.protocol"})
    if arguments[0] == "predict":
        arguments = spell_out(arguments, {"--inspect": "--inspect.enabled", "--write": "--predictions.write"})
    arguments += last_lists(check_settings(arguments))
    if "--ckpt_path" in arguments[:-1]:  # before Lightning opens it to look for hyper-parameters
        check_checkpoint(arguments[arguments.index("--ckpt_path") + 1])
    with explained():
        DualPixelCLI(
            Recipe,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False},
            parser_kwargs={"prog": "dualpixel", "exit_on_error": False}
            | {name: {"exit_on_error": False} for name in LightningCLI.subcommands()},
            args=arguments,
        )


class DualPixelCLI(LightningCLI):
    """LightningCLI with our callbacks as argument groups, and one folder for everything a run leaves behind."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's own options."""
        parser.add_argument(
            "--run.name",
            type=str | None,
            default=None,
            help="name of the run's folder; by default RECIPE-DATASET-NUMBER",
        )
        parser.add_argument("--run.root", type=Path, default=Path("runs"), help="folder of all runs")
        parser.add_argument(
            "--run.test_after_fit",
            type=bool,
            default=False,
            help="score the best checkpoint on the test split after fit",
        )
        parser.add_class_arguments(WandbOptions, "wandb")
        parser.add_lightning_class_args(Scores, "scores")
        parser.add_lightning_class_args(Panels, "panels")
        parser.add_lightning_class_args(Diagnostics, "diagnostics")
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(WritePredictions, "predictions")
        parser.add_lightning_class_args(Inspect, "inspect")
        parser.add_lightning_class_args(SharpRegions, "sharp_regions")
        parser.set_defaults({"data": {"class_path": "dualpixel.data.datamodule.DualPixelData"}})

    def before_instantiate_classes(self) -> None:
        """Choose the folder of the run; refuse to score random weights."""
        options = self._options()
        options["ckpt_path"] = find_checkpoint(options.get("ckpt_path"), training=self.subcommand == "fit")
        options["weights_only"] = True  # a checkpoint may come from a stranger
        # neither Lightning's own table of every value, nor every output kept in memory
        for name in {"verbose", "return_predictions"} & set(options.keys()):
            options[name] = False
        checkpoint = options["ckpt_path"]
        check_checkpoint(checkpoint)
        weights = options.model.init_args.get("init_from")
        if self.subcommand != "fit" and not checkpoint and weights is None:
            raise DualPixelError(
                f"{self.subcommand} needs weights: --ckpt_path RUN_FOLDER_OR_CHECKPOINT, or --model.init_from FILE.safetensors"
            )
        if weights is not None and not checkpoint and not Path(weights).is_file():
            raise DualPixelError(f"--model.init_from {weights}: no such file")
        default = f"{_recipe_name(options)}-{Path(str(options.data.init_args.get('dataset', 'data'))).stem}"
        known = Path(checkpoint) if checkpoint else None
        self.folder = choose_folder(Path(options.run.root), options.run.name, default, known)
        if self.subcommand == "fit" and not checkpoint:
            options["ckpt_path"] = restarted_checkpoint(self.folder)
            if options["ckpt_path"] is None and rank_zero_only.rank == 0:
                check_new(self.folder)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer the folder, the loggers and the progress display."""
        options = self._options()
        # it brings all weights; those that its training began with may be gone, or of another stage
        if options["ckpt_path"]:
            self.model.init_from = None
        config = yaml.safe_load(self._parser(self.subcommand).dump(options, skip_none=False))
        if options.trainer.logger in (None, True) and not options.trainer.fast_dev_run:
            resumed = options["ckpt_path"] if self.subcommand == "fit" else None
            wandb = WandbOptions(**options.wandb.as_dict())
            kwargs["logger"] = make_loggers(self.folder, config, wandb, self.subcommand, resumed)
        if hasattr(self.datamodule, "ensure_prepared") and rank_zero_only.rank == 0:
            self.datamodule.ensure_prepared(self.subcommand)  # before there is a folder of a run that cannot run
        kwargs["default_root_dir"] = str(self.folder)
        kwargs["plugins"] = [*_listed(self.config_init[self.subcommand].trainer.plugins), AtomicCheckpoints()]
        trainer = super().instantiate_trainer(**kwargs)
        if options.trainer.enable_progress_bar is not False:
            trainer.callbacks = [one for one in trainer.callbacks if "ProgressBar" not in type(one).__name__] + [
                progress_callback()
            ]
        logger = next((one for one in trainer.loggers if isinstance(one, RunLogger)), None)
        trainer.callbacks += [
            SavedConfiguration(config, self.subcommand, options["ckpt_path"] is not None),
            LoggedRun(logger, self.subcommand, options.wandb.log_best),
            Requeue(),
        ]
        return trainer

    def before_fit(self) -> None:
        """Say what is trained on what."""
        if self.trainer.is_global_zero:
            count = sum(parameter.numel() for parameter in self.model.parameters())
            print(f"{_recipe_name(self._options())}: {count:,} parameters; run folder {self.folder}", flush=True)

    def after_fit(self) -> None:
        """Test where it was asked for, and say what came out and where it lies."""
        if self._options().run.test_after_fit:
            best = next(one for one in self.trainer.callbacks if isinstance(one, BestCheckpoint)).best_model_path
            self.trainer.test(
                self.model, datamodule=self.datamodule, ckpt_path=best or None, weights_only=True, verbose=False
            )
        if self.trainer.is_global_zero:
            self._summarise()

    def after_validate(self) -> None:
        """Say what came out."""
        if self.trainer.is_global_zero:
            self._summarise()

    def after_test(self) -> None:
        """Say how to send what was logged; what came out is said already."""
        if self.trainer.is_global_zero:
            self._say_how_to_sync()

    def after_predict(self) -> None:
        """Say where the images are."""
        writer = next(one for one in self.trainer.callbacks if isinstance(one, WritePredictions))
        inspect = next(one for one in self.trainer.callbacks if isinstance(one, Inspect))
        if self.trainer.is_global_zero:
            print(f"{writer.written} images written to {writer.target_folder()}")
            if inspect.enabled:
                print(f"what the alignment does, as pictures: {inspect.target_folder()}")

    def _summarise(self) -> None:
        scores = next(one for one in self.trainer.callbacks if isinstance(one, Scores))
        panels = next(one for one in self.trainer.callbacks if isinstance(one, Panels))
        print(f"\nrun folder: {self.folder}")
        best = best_validation(scores.history)
        if best:
            step, said = best
            print(said)
            drawn = panels.drawn.get(f"val-step{step:08d}", [])
            print(*(f"its panel: {path}" for path in drawn), sep="\n", end="\n" if drawn else "")
        self._say_how_to_sync()

    def _say_how_to_sync(self) -> None:
        sync = how_to_sync(self.folder)
        if sync:
            print(f"Weights & Biases ran offline; send all of this run by: {sync}")

    def _options(self) -> Any:
        return self.config[self.subcommand]


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _recipe_name(options: Any) -> str:
    files = [Path(str(path)).stem for path in options.get("config") or [] if path is not None]
    name = files[0] if files else options.model.class_path.rpartition(".")[2].lower()
    return "run" if name == "config" else name


def _quieten(command: str) -> None:
    """Drop warnings of Lightning that are about set-ups we have dealt with, so that those that matter are seen."""
    for message in (
        r".*does not have many workers.*",
        r".*your dataloader is not resumable.*",  # it is: the sampler asks for the steps done
        r".*Checkpoint directory .* exists and is not empty.*",  # a run is resumed into its own folder
        r".*The number of training batches .* is smaller than the logging interval.*",
        r".*LightningCLI's args parameter is intended to run from within Python.*",
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
        r".*Experiment logs directory .* exists and is not empty.*",
        r".*The dirpath has changed from.*",  # a checkpoint may be scored from another run's folder
        r".*There is a wandb run already in progress.*",
        r".*sync_dist=True.*",  # scores are reduced by their table already
        r".*module\(s\) in eval mode at the start of training.*",  # frozen parts of a network are
    ):
        warnings.filterwarnings("ignore", message)
    if command != "fit":  # who only scores does not need what had watched the training
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.trainer.connectors.checkpoint_connector"):
        logging.getLogger(name).addFilter(lambda record: not any(said in str(record.msg) for said in ADVERTISED))
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"  # the line of code it came from helps no user
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
