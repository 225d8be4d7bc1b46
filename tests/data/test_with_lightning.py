"""The data modules in the hands of Lightning's own Trainer and command line."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI

from lightning_gen.data import DataModule, Digits, ImageFolder, Points, Ring2D, TensorRows


class Numbers(DataModule):
    """Points whose coordinate is their position; train only."""

    modality = Points()
    sample_shape = (1,)
    splits = ("train",)

    def __init__(self, count: int = 26, **kwargs) -> None:
        super().__init__(**kwargs)
        self.count = count

    def load_split(self, name):
        return TensorRows(torch.arange(self.count, dtype=torch.float32)[:, None])


class Recorder(LightningModule):
    """Notes the samples of every training batch, and what is validated and predicted."""

    batches_per_step = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.validated, self.epochs = [], [], []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch["x"].flatten().tolist())
        self.epochs.append(self.trainer.current_epoch)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch)

    def predict_step(self, batch, batch_idx):
        return batch["seeds"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Saves after the batch `step`, or after the epoch that ends there."""

    def __init__(self, step: int, path, at_epoch_end: bool = False) -> None:
        self.step, self.path, self.at_epoch_end = step, path, at_epoch_end

    def on_train_batch_end(self, trainer, *args):
        if not self.at_epoch_end and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer, *args):
        if self.at_epoch_end and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def trainer(folder, *callbacks, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    return Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_checkpointing=saves,
        **quiet,
        **options,
    )


STEPS = 4  # of an epoch: 26 samples in steps of 2 × 3


@pytest.mark.parametrize("length", [{"max_epochs": 3}, {"max_steps": 12, "max_epochs": -1}])
@pytest.mark.parametrize(("step", "at_epoch_end"), [*((s, False) for s in range(1, 10)), (4, True), (8, True)])
def test_a_killed_run_goes_on_with_the_very_next_batch(tmp_path, length, step, at_epoch_end):
    whole, resumed = Recorder(), Recorder()
    saver = SaveAt(step, tmp_path / "a.ckpt", at_epoch_end)
    trainer(tmp_path, saver, **length).fit(whole, datamodule=Numbers(batch_size=3))
    assert [len(batch) for batch in whole.seen] == [6] * 3 * STEPS
    for epoch in range(3):
        seen = [i for batch in whole.seen[epoch * STEPS : (epoch + 1) * STEPS] for i in batch]
        assert len(set(seen)) == 24
    trainer(tmp_path, **length).fit(resumed, datamodule=Numbers(batch_size=3), ckpt_path=tmp_path / "a.ckpt")
    assert resumed.seen == whole.seen[step:]


@pytest.mark.parametrize("length", [{"max_epochs": 4}, {"max_steps": 12, "max_epochs": -1}])
@pytest.mark.parametrize(("step", "at_epoch_end"), [(2, False), (3, False), (3, True), (5, False)])
def test_a_killed_run_of_short_epochs_goes_on_too(tmp_path, length, step, at_epoch_end):
    whole, resumed = Recorder(), Recorder()
    options = {**length, "limit_train_batches": 3}
    saver = SaveAt(step, tmp_path / "a.ckpt", at_epoch_end)
    trainer(tmp_path, saver, **options).fit(whole, datamodule=Numbers(batch_size=3))
    trainer(tmp_path, **options).fit(resumed, datamodule=Numbers(batch_size=3), ckpt_path=tmp_path / "a.ckpt")
    assert len(whole.seen) == 12
    assert resumed.seen == whole.seen[step:]
    assert len({tuple(batch) for batch in whole.seen}) == 12


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_checkpoints_made_by_lightning_resume(tmp_path):
    whole, resumed = Recorder(), Recorder()
    for model, start in ((whole, None), (resumed, tmp_path / "step=6.ckpt")):
        saver = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        trainer(tmp_path, saver, max_epochs=3).fit(model, datamodule=Numbers(batch_size=3), ckpt_path=start)
    assert len(whole.seen) == 12
    assert resumed.seen == whole.seen[6:]


def test_overfitting_repeats_the_same_batches(tmp_path):
    model = Recorder()
    trainer(tmp_path, max_epochs=3, overfit_batches=2).fit(model, datamodule=Numbers(batch_size=3))
    assert model.seen == 3 * model.seen[:2]


def test_validation_runs_on_seeds_or_samples(tmp_path):
    model = Recorder()
    trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(model, datamodule=Numbers(batch_size=3))
    assert [set(batch) for batch in model.validated] == [{"seeds", "index"}]
    model = Recorder()
    trainer(tmp_path).validate(model, datamodule=Ring2D(num_samples=8, num_val=5, batch_size=3), verbose=False)
    assert [set(batch) for batch in model.validated] == 2 * [{"x", "y", "index"}]
    assert [len(batch["x"]) for batch in model.validated] == [3, 2]
    seeds = trainer(tmp_path).predict(model, datamodule=Numbers(num_predict=5, batch_size=3))
    assert [len(part) for part in seeds] == [3, 2]


def test_images_reach_the_model_in_its_form(tmp_path):
    model = Recorder()
    trainer(tmp_path, max_steps=1, limit_val_batches=1).fit(model, datamodule=Digits(image_size=8, batch_size=4))
    assert len(model.seen[0]) == 8 * 64
    assert min(model.seen[0]) == -1
    assert model.validated[0]["x"].dtype == torch.float32
    assert model.validated[0]["x"].min() == -1


@pytest.fixture(autouse=True)
def _no_other_arguments(monkeypatch):
    monkeypatch.setattr("sys.argv", ["lightning_gen"])


def run_cli(*arguments):
    return LightningCLI(
        Recorder,
        DataModule,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        seed_everything_default=False,
        args=list(arguments),
    )


def test_the_command_line_names_the_class():
    data = run_cli("--data=ImageFolder", "--data.path=images", "--data.image_size=[4, 6]").datamodule
    assert isinstance(data, ImageFolder)
    assert data.sample_shape == (3, 4, 6)


@pytest.mark.parametrize(
    "name", ["Digits", "MNIST", "FashionMNIST", "CIFAR10", "Ring2D", "Grid2D", "Moons2D", "Checkerboard2D"]
)
def test_every_source_can_be_named_alone(name):
    assert type(run_cli(f"--data={name}", "--data.batch_size=2").datamodule).__name__ == name


@pytest.mark.parametrize("name", ["Stacked", "FewLabels"])
def test_sources_of_sources_can_be_named_too(name):
    data = run_cli(f"--data={name}", "--data.data=Digits", "--data.data.image_size=8", "--data.batch_size=2").datamodule
    assert type(data).__name__ == name
    assert (type(data.data), data.sample_shape[1:], data.batch_size) == (Digits, (8, 8), 2)
