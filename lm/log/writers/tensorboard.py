"""TensorBoard's event files, in the folder tensorboard/ of a run."""

from lm.disk.events import Events

PACKAGE = ""  # the files are written here; `pip install tensorboard` shows them


class Writer:
  """The event file of one process of a run."""

  def __init__(self, folder, *, resume_step, config):
    self._events = Events(folder / "tensorboard", purge_step=resume_step + 1)

  def write(self, step, values):
    """Appends the numbers of one step."""
    self._events.write(step, values)

  def close(self):
    """Closes the file."""
    self._events.close()
