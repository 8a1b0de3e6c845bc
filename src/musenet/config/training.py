"""How a model is trained."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from musenet.options import Options

if TYPE_CHECKING:
    import torch

Precision = Literal["bfloat16", "tf32", "float32", "float64"]
Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainingOptions(Options):
    """Epochs, batches, learning rate, when to stop and what to keep."""

    epochs: int = Field(2, ge=1)
    requests: float = Field(
        1.0, gt=0, le=1, description="share of the training requests to use, the same requests for every model and seed"
    )
    replay: float = Field(
        1.0,
        ge=0,
        le=1,
        description="with `--from`: share that is used again of the requests the earlier run could train on, beside "
        "all later ones; less is faster",
    )
    batch_size: int = Field(1024, ge=1, description="candidates per batch; batches consist of whole requests")
    learning_rate: float = Field(0.001, gt=0)
    final_learning_rate: float = Field(
        1.0, gt=0, le=1, description="final learning rates as a share of the initial ones; linear decay"
    )
    embedding_learning_rate: float | None = Field(
        None, gt=0, description="learning rate of the embedding table (lazy Adam); `learning_rate` if unset"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="decoupled, as in AdamW; in the embedding table it applies to the rows used in a step"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate of every hidden layer")
    average: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="keep an exponential average of the weights, of which a step keeps this share (.999, say; less at "
        "first), and validate and keep that; a step then passes over the whole embedding table",
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="decay rates of Adam's two moments")
    unseen_rate: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="share of ids that are replaced by the unseen one in training, so that its embedding is trained",
    )
    validations_per_epoch: int = Field(4, ge=1)
    patience: int = Field(4, ge=1, description="stop after this many validations without improvement")
    monitor: str = Field(
        "auc",
        pattern=r"^(auc|logloss|gauc|mrr|(ndcg|recall)@[1-9][0-9]{0,3})$",
        description="validation metric that selects the weights: `auc`, `logloss`, or within requests `gauc`, "
        "`mrr`, `ndcg@10`, `recall@10` (any cut-off)",
    )
    validation_impressions: int = Field(
        500_000,
        ge=1,
        description="approximate number of impressions for validation during training, the same every time",
    )
    checkpoint_every: int = Field(1000, ge=1, description="steps between checkpoints")
    embeddings: Literal["replicated", "sharded"] = Field(
        "replicated",
        description="whether each worker holds the whole embedding table, or a share of its rows",
    )
    threads: int | None = Field(
        None, ge=1, description="torch threads; if unset, one per 1,024 candidates of a batch, up to all cores"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = Field(
        "float32",
        description="of all numbers; with float64 the number of workers shows in no digit that matters, with bfloat16 "
        "the networks' matrix products alone are in it, twice as fast where the processor knows it, else slower, which "
        "training says; with tf32, those of all float32 products of a step on a CUDA card",
    )

    @property
    def dtype(self) -> "torch.dtype":
        """The precision, as torch has it."""
        import torch  # takes longer than to read a configuration

        return torch.float64 if self.precision == "float64" else torch.float32
