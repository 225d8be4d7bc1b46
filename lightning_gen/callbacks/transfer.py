"""Starting from what was learnt on other data."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_gen.checkpoints import Weights, read_checkpoint, weights_of
from lightning_gen.errors import UserError


class Transfer(Callback):
    """Starts networks from a checkpoint of another run: every tensor of equal name and shape is taken.

    Others, such as class embeddings of another data set, keep their initial values; how many is told. A resumed run
    does not need the file. (Wang et al., "Transferring GANs: generating images from limited data", ECCV 2018.)

    Args:
        ckpt_path: a checkpoint that `fit` wrote.
        modules: submodules to start from it.
        weights: `raw`, those that were trained, or `ema`, averaged ones where the checkpoint has them.

    Raises:
        UserError: at the start of training, if the file cannot be read, or nothing in it fits one of `modules`.
    """

    def __init__(self, ckpt_path: str, modules: list[str] | None = None, weights: Weights = "raw") -> None:
        self.ckpt_path, self.modules, self.weights = ckpt_path, modules or ["generator", "discriminator"], weights
        self.done = False
        self._problem: UserError | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load what fits, before averages start from it and a resumed run's own weights come over it."""
        if stage != "fit":
            return
        try:
            self._load(pl_module)
        except UserError as problem:  # none of a run that is resumed, which is not known yet
            self._problem = problem

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was wrong."""
        if self._problem is not None and not self.done:
            raise self._problem
        self.done = True

    def state_dict(self) -> dict[str, Any]:
        """Whether the run has started from the file."""
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of the run that is resumed."""
        self.done = state_dict["done"]

    def _load(self, model: LightningModule) -> None:
        try:
            state, _ = weights_of(read_checkpoint(self.ckpt_path), self.weights)
        except UserError as error:
            raise UserError(str(error).replace("--ckpt_path", "Transfer.ckpt_path")) from error
        own = model.state_dict()
        for name in self.modules:
            mine = {key: tensor for key, tensor in own.items() if key.startswith(f"{name}.")}
            fitting = {key: state[key] for key in mine if key in state and state[key].shape == mine[key].shape}
            if not fitting:
                raise UserError(
                    f"Transfer.ckpt_path is {self.ckpt_path}, but nothing in it fits {name}: use a checkpoint of the"
                    " same networks, or leave the name out of Transfer.modules"
                )
            model.load_state_dict(fitting, strict=False)
            rank_zero_info(f"{name}: {len(fitting)} of {len(mine)} tensors from {self.ckpt_path}")
