"""A model as ONNX: what depends on the request alone in one graph, computed once, and the candidates' part in another.

The whole model is traced on one request and then cut in two, so that every model is exported by the same few lines:
whatever depends on no candidate belongs to the request's part, and what it hands over are inputs of the candidates'.

Shapes: U distinct rows of the embedding table, N candidates, L history events, K scenarios.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto
from torch import Tensor, nn
from torch.onnx.symbolic_helper import parse_args

from musenet.dataset.batch import Batch, Schema
from musenet.models.interface import ClickModel
from musenet.models.musenet.intentions import IntentionModules
from musenet.models.musenet.model import Musenet
from musenet.serving.scorer.runtime import WITHOUT_REPEATS

OPSET = 18
OF_CANDIDATES = ("candidate_codes", "candidate_dense", "repeat_features")
INPUTS = ("values", "request_codes", "history_codes", "request_dense", "predefined_scenario", *OF_CANDIDATES)
"""Of one request: `values` (U, D) are the embeddings of the rows in use, codes are places in them; see `Batch`."""
_ROWS = {"values": "rows", "history_codes": "events", **dict.fromkeys(OF_CANDIDATES, "candidates")}
LOGIT = "logit"


class LookedUp(nn.Module):
    """Stands for the embedding table where its rows are given."""

    def look_up(self, rows: Tensor) -> Tensor:
        """The rows themselves."""
        return rows


class OneRequest(nn.Module):
    """A model as a function of plain tensors that describe one request."""

    def __init__(self, model: ClickModel) -> None:
        super().__init__()
        self.model = model

    def batch(self, inputs: tuple[Tensor, ...]) -> Batch:
        """The batch of these inputs; what only training and evaluation read is left empty."""
        given = dict(zip(INPUTS, inputs, strict=True))
        features = given.pop("repeat_features")
        nothing = features[:1, 0] * 0  # (1,)
        request = (features[:, 0] * 0).long()
        events = torch.ones_like(given["history_codes"][:, :1]).sum().reshape(1)
        return Batch(
            rows=given.pop("values"),
            **given,
            history_offset=torch.cat([events * 0, events]),
            request=request,
            repeat_indicator=features[:, 0] > 0.5,
            repeat_features=features,
            repeat_fraction=nothing,
            label=nothing,
            weight=None,
            true_scenario=None,
            request_index=torch.zeros(1, dtype=torch.long),
        )


class Score(OneRequest):
    """The logit of every candidate; a hardened request computes its one scenario."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """(N,) from `INPUTS`, in their order."""
        batch = self.batch(inputs)
        if _hardens_requests(self.model):
            return self.model.logit_of_one_scenario(batch)  # type: ignore[operator, no-any-return]
        return self.model(batch).logit  # type: ignore[no-any-return]


EXPLANATIONS = ("scenario_logit", "log_assignment", "repeat_probability", "repeat_score", "explore_score")


class _Explain(OneRequest):
    """What else the model says: `EXPLANATIONS`, of which some models have none."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(value for value in self.explain(self.batch(inputs)).values() if value is not None)

    def explain(self, batch: Batch) -> dict[str, Tensor | None]:
        """By name."""
        prediction = self.model(batch)
        found = {name: getattr(prediction, name, None) for name in EXPLANATIONS}
        if isinstance(self.model, Musenet) and isinstance(self.model.intentions, IntentionModules):
            request, candidate, _, _ = self.model.sides(batch)
            scores = self.model.intentions.scores(request, candidate, batch)
            kept = self.model.pruning.left
            found["repeat_score"], found["explore_score"] = (score[:, kept] for score in scores)
        return found


def export_graphs(model: ClickModel, schema: Schema, folder: Path) -> None:
    """Write `candidates.onnx` and what else `graphs_of` gives.

    Args:
        model: with trained weights; its embedding table is taken out.
        schema: of the batches.
        folder: where to.
    """
    for name, graph in graphs_of(model, schema).items():
        onnx.save(graph, folder / f"{name}.onnx")


def graphs_of(model: ClickModel, schema: Schema) -> dict[str, ModelProto]:
    """`request`, `candidates`, `explanation`, the first and the last if there is anything to compute.

    And, of a model with a repeat branch, the first two once more without it, for requests in which nothing repeats.
    """
    model.eval()
    example = _example(schema, model.table.weight.shape[1])
    model.table = LookedUp()  # type: ignore[assignment]
    request, candidates = cut(_traced(Score(model), example, (LOGIT,)))
    found = {"request": request, "candidates": candidates}
    if isinstance(model, Musenet) and isinstance(model.intentions, IntentionModules):
        model.intentions.nothing_repeats = True
        without = cut(_traced(Score(model), example, (LOGIT,)))
        found |= {f"{name}{WITHOUT_REPEATS}": graph for name, graph in zip(found, without, strict=True)}
        model.intentions.nothing_repeats = False
    explain = _Explain(model)
    with torch.no_grad():
        names = tuple(name for name, value in explain.explain(explain.batch(example)).items() if value is not None)
    found["explanation"] = _traced(explain, example, names) if names else None
    return {name: graph for name, graph in found.items() if graph is not None}


def cut(whole: ModelProto) -> tuple[ModelProto | None, ModelProto]:
    """The request's part and the candidates' part of a graph whose only output is the logit."""
    whole = onnx.shape_inference.infer_shapes(whole)
    graph = whole.graph
    inputs = {value.name for value in graph.input}
    of_candidates, of_request = inputs & set(OF_CANDIDATES), inputs - set(OF_CANDIDATES)
    handed_over: dict[str, None] = {}
    for node in graph.node:
        used = set(_used(node))
        if used & of_candidates:
            of_candidates |= set(node.output)
            handed_over |= dict.fromkeys(name for name in _used(node) if name in of_request - inputs)
        elif used & of_request:
            of_request |= set(node.output)
    extractor = onnx.utils.Extractor(whole)
    between = list(handed_over)
    request = extractor.extract_model([name for name in INPUTS if name in of_request & inputs], between)
    candidates = extractor.extract_model([*(name for name in INPUTS if name in inputs), *between], [LOGIT])
    return (_trimmed(request) if between else None), _trimmed(candidates)


def _used(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those read inside its branches included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in _branches(attribute):
            for inner in graph.node:
                yield from _used(inner)


def _branches(attribute: Any) -> Iterable[GraphProto]:
    return [attribute.g] if attribute.HasField("g") else attribute.graphs


def _trimmed(model: ModelProto) -> ModelProto:
    """The model without inputs that nothing reads."""
    used = {name for node in model.graph.node for name in _used(node)} | {value.name for value in model.graph.output}
    kept = [value for value in model.graph.input if value.name in used]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    onnx.checker.check_model(model)
    return model


def _traced(module: OneRequest, example: tuple[Tensor, ...], outputs: tuple[str, ...]) -> ModelProto:
    """The module as ONNX, for any number of rows, events and candidates."""
    file = BytesIO()
    for operator, translation in _TRANSLATIONS.items():
        torch.onnx.register_custom_op_symbolic(operator, translation, OPSET)  # type: ignore[attr-defined]
    with torch.no_grad(), warnings.catch_warnings():
        # Torch advises its other exporter, which fixes sizes of 0 and 1, and warns of sizes that are fixed on purpose.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=list(INPUTS),
            output_names=list(outputs),
            dynamic_axes={name: {0: rows} for name, rows in _ROWS.items()},
            opset_version=OPSET,
        )
    return onnx.load_from_string(file.getvalue())


def _log_sigmoid(graph: Any, x: Any) -> Any:
    """-log(1 + exp(-x)): torch's own translation, log(sigmoid(x)), is -inf for x below -88."""
    return graph.op("Neg", graph.op("Softplus", graph.op("Neg", x)))


def _logaddexp(graph: Any, x: Any, y: Any) -> Any:
    """x + log(1 + exp(y - x)), which torch does not translate."""
    return graph.op("Add", x, graph.op("Softplus", graph.op("Sub", y, x)))


@parse_args("v", "v", "v", "v", "v", "i", "f", "f", "i")
def _standardise(  # noqa: PLR0913, PLR0917 - torch's own arguments
    graph: Any,
    x: Any,
    scale: Any,
    shift: Any,
    mean: Any,
    variance: Any,
    training: int,
    momentum: float,
    epsilon: float,
    _: int,
) -> Any:
    """(x - mean) / sqrt(variance + epsilon): torch's own translation asks for a size known beforehand."""
    if training or not (scale.node().mustBeNone() and shift.node().mustBeNone()):
        raise NotImplementedError("only `Standardise` in evaluation mode is translated")
    epsilons = graph.op("Constant", value_t=torch.tensor(epsilon))
    return graph.op("Div", graph.op("Sub", x, mean), graph.op("Sqrt", graph.op("Add", variance, epsilons)))


_TRANSLATIONS: dict[str, Callable[..., Any]] = {
    "aten::log_sigmoid": _log_sigmoid,
    "aten::logaddexp": _logaddexp,
    "aten::batch_norm": _standardise,
}
"""Operators that torch translates otherwise, or not at all."""


def _example(schema: Schema, embedding: int) -> tuple[Tensor, ...]:
    """One request of three candidates and two events; sizes that differ, so that none is taken for another."""
    rows, events, candidates = 11, 2, 3
    generator = torch.Generator().manual_seed(0)

    def codes(count: int, width: int) -> Tensor:
        return torch.randint(1, rows, (count, width), generator=generator)

    def numbers(count: int, width: int) -> Tensor:
        return torch.rand(count, width, generator=generator)

    repeats = numbers(candidates, 3)
    repeats[:, 0] = torch.tensor([1.0, 0.0, 1.0])
    given = {
        "values": numbers(rows, embedding),
        "request_codes": codes(1, sum(field.width for field in schema.request_fields)),
        "history_codes": codes(events, len(schema.history_fields)),
        "request_dense": numbers(1, len(schema.request_dense)),
        "predefined_scenario": torch.zeros(1, dtype=torch.long),
        "candidate_codes": codes(candidates, sum(field.width for field in schema.candidate_fields)),
        "candidate_dense": numbers(candidates, len(schema.candidate_dense)),
        "repeat_features": repeats,
    }
    return tuple(given[name] for name in INPUTS)


def _hardens_requests(model: nn.Module) -> bool:
    """Whether the model gives every request one scenario; the paper's own hard version gives it to candidates."""
    return isinstance(model, Musenet) and model.options.hardens
