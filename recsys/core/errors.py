"""Every error this project raises on purpose.

The tree::

    RecsysError
    ├── CallError          the caller asked for something that cannot be (exit code 2)
    │   └── ConfigError    a recipe or a setting is wrong
    ├── DataError          an input file cannot be used; says file, place and remedy
    │   └── IdError        a single value is no id
    ├── ArtifactError      a run folder is missing something or holds something unexpected
    │   └── InUseError     another process works in the folder
    ├── UndeclaredError    a stage reads what it does not declare (a defect of the stage)
    ├── WorkerError        a process that worked for this one failed
    │   └── LostError      it died, or its machine did
    ├── TokenizerError     a codebook is out of its bounds; says which knob to turn
    ├── TrainingError      a training went wrong; names the batch
    └── DecodingError      no valid path exists for a request

The ladder: a condition the code handles fully is silent; one worth knowing later is logged; one that the user
should act on but that does not spoil the result is a warning; everything else raises one of the above.
"""


class RecsysError(Exception):
    """Base of all errors raised on purpose; its message says what was wanted, what came, what to change."""

    exit_code = 1


class CallError(RecsysError):
    """The call itself is wrong."""

    exit_code = 2


class ConfigError(CallError):
    """A recipe or a setting is wrong."""


class DataError(RecsysError):
    """An input cannot be used."""


class IdError(DataError, ValueError):
    """A single value is no id."""


class ArtifactError(RecsysError):
    """A run folder misses an artifact, or holds one that does not fit."""


class InUseError(ArtifactError):
    """Another process works in the folder."""


class UndeclaredError(RecsysError):
    """A stage reads a setting or a folder that it does not declare."""


class WorkerError(RecsysError):
    """A process that worked for this one failed or died."""


class LostError(WorkerError):
    """A process that worked for this one died; the work can be started again."""


class TokenizerError(RecsysError):
    """A tokenizer fails its quality bounds."""


class TrainingError(RecsysError):
    """A training went wrong, e.g. a loss is no number."""


class DeviceError(RecsysError):
    """A device that is set is not there."""


class DecodingError(RecsysError):
    """No valid path can be decoded."""
