"""Where trainings are recorded beside the run folder."""

from pydantic import Field

from musenet.options import Options


class TrackingOptions(Options):
    """Services of experiment tracking; needs the extra `tracking`."""

    mlflow: str | None = Field(
        None, description="tracking URI of MLflow, such as `sqlite:///mlflow.db` or `http://localhost:5000`"
    )
    tensorboard: str | None = Field(None, description="folder of TensorBoard's event files, with a sub-folder per run")
