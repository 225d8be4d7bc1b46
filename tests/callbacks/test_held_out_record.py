import csv
import json
from functools import partial

import pytest
import torch

from lightning_gen.__main__ import main
from lightning_gen.callbacks import HeldOutRecord
from lightning_gen.data import Digits, Thresholded
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder

SGD = partial(torch.optim.SGD, lr=1e-3)


def model():
    torch.manual_seed(0)
    networks = MLPEncoder([1, 8, 8], 8, 1), partial(MLPDecoder, sample_dim=[1, 8, 8], width=8, depth=1)
    return VAE(*networks, latent_dim=2, likelihood=Bernoulli(), optimizer=SGD)


def test_what_was_logged_is_in_the_file(make_trainer, tmp_path):
    vae, data, callback = model(), Thresholded(Digits(image_size=8), batch_size=64), HeldOutRecord()
    options = {"limit_val_batches": 1.0, "val_check_interval": 2, "check_val_every_n_epoch": None}
    make_trainer(callback, max_steps=4, num_sanity_val_steps=1, **options).fit(vae, data)
    (again,) = make_trainer(limit_val_batches=1.0).validate(vae, data, verbose=False)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert callback.validations == 2  # Lightning's check before training does not count
    for name in ("val_elbo", "val_reconstruction", "val_kl"):
        assert float(rows[-1][name]) == pytest.approx(again[name], rel=1e-6)
        assert float(rows[0][name]) != float(rows[-1][name])
    assert json.loads((tmp_path / "metrics.json").read_text())["val_elbo"]["split"] == "val"


def test_a_run_without_validation_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = __file__.rsplit("/tests/", 1)[0] + "/configs/vae/vae_digits.yaml"
    words = ["--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    main(["fit", "--config", recipe, *words])
    assert "No validation was reached" in capsys.readouterr().out
