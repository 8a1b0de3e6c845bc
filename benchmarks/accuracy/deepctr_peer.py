"""Trains one model of DeepCTR-Torch on exported arrays; runs in the peers' own environment and knows no musenet.

    python deepctr_peer.py EXPORT TASK.json OUT.npz

TASK.json holds `model` (the options of our model) and `training`, as in our configuration, `seed`, and `initial`: `own`
for the package's initial weights, `usual` for those that ours begins with. OUT.npz gets the click probabilities of
validation and test after every epoch, (epochs, N) each; which epoch counts is decided elsewhere.

The package builds and computes the models. The loop is here, since its own cannot train a row on its own task alone:
Adam on the mean cross-entropy of shuffled batches. As in our training, ids are replaced by the unseen code, 1, at
`unseen_rate`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DCN, DIN, PLE, WDL
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

UNSEEN = 1
LARGEST_EXACT = 2**24  # codes travel as float32, as this package wants them
SCORED_AT_ONCE = 4096

Task = dict[str, Any]
Columns = list[Any]


def main(export: Path, task_file: Path, out: Path) -> None:
    torch.set_num_threads(1)
    task: Task = json.loads(task_file.read_text(encoding="utf-8"))
    schema = json.loads((export / "schema.json").read_text(encoding="utf-8"))
    model = build(task, schema)
    data = {split: Rows(export / f"{split}.npz", schema, model) for split in ("train", "valid", "test")}
    scores = train(model, data, task["training"], np.random.default_rng(task["seed"]))
    unfinished = out.with_suffix(".unfinished.npz")
    stacked: Any = {split: np.stack(kept) for split, kept in scores.items()}
    np.savez(unfinished, parameters=_parameters(model), **stacked)
    unfinished.replace(out)


def train(
    model: nn.Module, data: dict[str, "Rows"], options: Task, random: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """The probabilities after every epoch, until validation was no better for `patience` epochs."""
    scores: dict[str, list[np.ndarray]] = {"valid": [], "test": []}
    optimizer = torch.optim.Adam(model.parameters(), lr=options["learning_rate"])
    validations: list[float] = []
    for _ in range(options["epochs"]):
        train_epoch(model, optimizer, data["train"], options, random)
        for split, kept in scores.items():
            kept.append(predict(model, data[split]))
        validations.append(roc_auc_score(data["valid"].label.numpy(), scores["valid"][-1]))
        if len(validations) - 1 - int(np.argmax(validations)) >= options["patience"]:
            break
    return scores


class Rows:
    """A split as the one matrix that the package's models take.

    Args:
        file: the split's arrays.
        schema: of the export.
        model: whose `feature_index` says which columns hold what.
    """

    def __init__(self, file: Path, schema: Task, model: Any) -> None:
        with np.load(file) as arrays:
            content = dict(arrays)
        self.label = torch.from_numpy(content["label"].astype(np.float32))
        self.scenario = torch.from_numpy(content["scenario"])
        request = content["request"]
        named = {f["name"]: content["codes"][:, [place]] for place, f in enumerate(schema["fields"])}
        named |= {name: content["dense"][:, [place]] for place, name in enumerate(schema["dense"])}
        for place, name in enumerate(history_names(schema)):
            named[name] = content["history"][request, place]
        named["length"] = content["length"][request, None]
        blocks = [named[name] for name in model.feature_index]
        assert all(block.max(initial=0) < LARGEST_EXACT for block in blocks), "a vocabulary is too large for float32"
        self.x = torch.from_numpy(np.concatenate(blocks, axis=1, dtype=np.float32))
        self.ids = [model.feature_index[field["name"]][0] for field in schema["fields"] if field["is_id"]]


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, rows: Rows, options: Task, random: np.random.Generator
) -> None:
    """One pass over the shuffled rows."""
    model.train()
    order = torch.from_numpy(random.permutation(len(rows.label)))
    for batch in order.split(options["batch_size"]):
        x = rows.x[batch]
        for column in rows.ids:
            x[torch.from_numpy(random.random(len(x)) < options["unseen_rate"]), column] = UNSEEN
        optimizer.zero_grad()
        answer = answers(model(x), rows.scenario[batch])
        nn.functional.binary_cross_entropy(answer, rows.label[batch]).backward()
        optimizer.step()


def answers(outputs: Tensor, scenario: Tensor) -> Tensor:
    """(N) each row's probability: the only one, or that of the row's own scenario. Other tasks get no gradient."""
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs.gather(1, scenario[:, None])[:, 0]


@torch.no_grad()
def predict(model: nn.Module, rows: Rows) -> np.ndarray:
    """(N) click probabilities."""
    model.eval()
    blocks = zip(rows.x.split(SCORED_AT_ONCE), rows.scenario.split(SCORED_AT_ONCE), strict=True)
    return torch.cat([answers(model(x), scenario) for x, scenario in blocks]).numpy()


def build(task: Task, schema: Task) -> nn.Module:
    """The package's model in the sizes of ours; without weight decay and dropout, which ours has not."""
    options = task["model"]
    columns = columns_of(schema, options["embedding"])
    common = {"l2_reg_embedding": 0, "l2_reg_dnn": 0, "seed": task["seed"]}
    hidden = tuple(options["hidden"])
    match options["name"]:
        case "din":
            model = _din(options, schema, columns, common)
        case "dcn_v2":
            assert options["structure"] == "parallel"
            assert options["low_rank"] is None
            common |= {"cross_num": options["cross_layers"], "cross_parameterization": "matrix"}
            model = DCN([], columns, dnn_hidden_units=hidden, l2_reg_linear=0, l2_reg_cross=0, **common)
        case "wide_deep":
            model = WDL(columns, columns, dnn_hidden_units=hidden, l2_reg_linear=0, **common)
        case "ple":
            model = _ple(options, schema, columns, common)
        case name:
            raise ValueError(f"no peer for {name}")
    if task["initial"] == "usual":
        begin_as_usual(model)
    return model


def begin_as_usual(model: Any) -> None:
    """Initial weights as ours: torch's own for linear layers, embeddings of about unit length.

    The package begins all of them within some 0.0001 of zero, which costs a deep network its first epochs.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    for table in model.embedding_dict.values():
        nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)


def _din(options: Task, schema: Task, columns: Columns, common: Task) -> nn.Module:
    """Its MLP takes no Dice, so that PReLU stands there whatever the activation unit has."""
    return DIN(
        columns,
        [field["name"] for field in candidates_of_history(schema)],
        dnn_hidden_units=tuple(options["hidden"]),
        dnn_activation="prelu",
        att_hidden_size=(options["attention_hidden"],),
        att_activation=options["activation"],
        **common,
    )


def _ple(options: Task, schema: Task, columns: Columns, common: Task) -> nn.Module:
    """It makes as many shared experts as each task has, whatever is asked, and its levels are of one size."""
    first, second = options["hidden"]
    assert first == second
    assert options["own_experts"] == options["shared_experts"]
    return PLE(
        columns,
        shared_expert_num=options["shared_experts"],
        specific_expert_num=options["own_experts"],
        num_levels=2,
        expert_dnn_hidden_units=(first,),
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=tuple(options["tower"]),
        l2_reg_linear=0,
        task_types=["binary"] * schema["scenarios"],
        task_names=[f"scenario_{k}" for k in range(schema["scenarios"])],
        **common,
    )


def columns_of(schema: Task, size: int) -> Columns:
    """The columns in the package's words; fields of one vocabulary share their embeddings."""

    def of_codes(name: str, vocabulary: str) -> Any:
        return SparseFeat(name, schema["codes"][vocabulary], embedding_dim=size, embedding_name=vocabulary)

    sparse = [of_codes(field["name"], field["vocabulary"]) for field in schema["fields"]]
    dense = [DenseFeat(name, 1) for name in schema["dense"]]
    shared = zip(history_names(schema), schema["history"], strict=True)
    history = [
        VarLenSparseFeat(of_codes(name, field["vocabulary"]), schema["history_length"], "mean", "length")
        for name, field in shared
    ]
    return [*sparse, *dense, *history]


def candidates_of_history(schema: Task) -> list[Task]:
    """The item's field that shares each history column's vocabulary, which is the query of DIN's attention."""
    of_items = {field["vocabulary"]: field for field in schema["fields"] if field["side"] == "item"}
    return [of_items[field["vocabulary"]] for field in schema["history"]]


def history_names(schema: Task) -> list[str]:
    """What the package wants history columns to be called: hist_ and the item's field."""
    return [f"hist_{field['name']}" for field in candidates_of_history(schema)]


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
