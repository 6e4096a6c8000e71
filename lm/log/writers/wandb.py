"""Weights & Biases: a run there is named as the folder, and continues with it.

Its own environment variables choose the account, the project and the mode
(WANDB_PROJECT, WANDB_MODE=offline). Steps that a killed run has sent before stay there
as they were: it takes each step once.
"""

import uuid

from lm.disk import atomic

PACKAGE = "wandb"


class Writer:
  """The run of a folder; wandb_id.txt in it keeps the name that it has there."""

  def __init__(self, folder, *, resume_step, config):
    import wandb

    file = folder / "wandb_id.txt"
    if not resume_step or not file.exists():
      atomic.write(file, uuid.uuid4().hex)
    self._run = wandb.init(
      id=file.read_text("utf-8"),
      name=folder.resolve().name,
      dir=str(folder),
      config=config,
      resume="allow",
    )

  def write(self, step, values):
    """Sends the numbers of one step."""
    self._run.log(values, step=step)

  def close(self):
    """Waits until all has been sent."""
    self._run.finish()
