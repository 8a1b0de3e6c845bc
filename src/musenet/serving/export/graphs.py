"""A model as ONNX: what depends on the request alone in one graph, computed once, and the candidates' part in another.

The whole model is traced on one request and then cut, so that every model is exported by the same few lines: whatever
depends on no candidate belongs to the request's part, and what it hands over are inputs of the candidates' part. For
files of requests it is traced once more, on several at once.

Shapes: U distinct rows of the embedding table, R requests, N candidates, L history events, K scenarios.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto
from onnxscript import opset18
from torch import Tensor, nn

from musenet.dataset.batch import Batch, Schema
from musenet.errors import ExportError
from musenet.models.interface import ClickModel, Prediction
from musenet.models.musenet.intentions import IntentionModules
from musenet.models.musenet.model import Musenet, Sides
from musenet.serving.export.many_requests import INPUTS_OF_MANY, batch_of_many, many_requests
from musenet.serving.export.one_request import INPUTS, OF_CANDIDATES, batch_of, one_request
from musenet.serving.scorer.runtime import MANY, WITHOUT_REPEATS

OPSET = 18
LOGIT = "logit"
OF_SCENARIOS = ("log_assignment", "repeat_probability", "scenario_logit")
"""What else many requests are told."""
_OF_REQUESTS = ("request_codes", "request_dense", "predefined_scenario")
_ROWS, _EVENTS, _CANDIDATES, _REQUESTS = map(torch.export.Dim, ("rows", "events", "candidates", "requests"))
_SIZES = {"values": (_ROWS,), "history_codes": (_EVENTS,)} | dict.fromkeys(OF_CANDIDATES, (_CANDIDATES,))
"""What may be of any size, by input: a size that several have is traced once."""
_SIZES_OF_MANY = {
    **_SIZES,
    **dict.fromkeys((*_OF_REQUESTS, "history_lengths"), (_REQUESTS,)),
    "history_codes": (_REQUESTS, _EVENTS),
    "request": (_CANDIDATES,),
}
EXPLANATIONS = ("scenario_logit", "log_assignment", "repeat_probability", "repeat_score", "explore_score")


class Answers(nn.Module):
    """All that is asked of a model, as a function of the plain tensors that describe one request."""

    def __init__(self, model: ClickModel) -> None:
        super().__init__()
        self.whole = one_request(model)
        has_branches = isinstance(model, Musenet) and type(model.intentions) is IntentionModules
        self.without_repeats = one_request(model, repeats=False) if has_branches else None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The values of `named`, in its order."""
        return tuple(self.named(inputs).values())

    def named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """`answers`, from `INPUTS`."""
        return self.answers(batch_of(inputs))

    def answers(self, batch: Batch) -> dict[str, Tensor]:
        """The logit (N,), the same without the repeat branch, and `EXPLANATIONS`: what of these the model has."""
        model = self.whole
        sides = model.sides(batch) if _predicts_from_sides(model) else None  # once: what is traced takes long
        prediction = _predict(model, batch, sides)
        found = {LOGIT: logit_of(model, batch, sides) if _hardens_requests(model) else prediction.logit}
        if self.without_repeats is not None:
            found[f"{LOGIT}{WITHOUT_REPEATS}"] = logit_of(self.without_repeats, batch, sides)
        explained = {name: getattr(prediction, name, None) for name in EXPLANATIONS}
        if isinstance(model, Musenet) and type(model.intentions) is IntentionModules:
            request, candidate, _, _ = sides or model.sides(batch)
            kept = model.pruning.left
            scores = model.intentions.scores(request, candidate, batch)
            explained["repeat_score"], explained["explore_score"] = (score[:, kept] for score in scores)
        return found | {name: value for name, value in explained.items() if value is not None}


class AnswersToMany(nn.Module):
    """The logit (N,), and what tells the requests' scenarios, as a function of the tensors that describe them."""

    def __init__(self, model: ClickModel) -> None:
        super().__init__()
        self.whole = many_requests(model)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The values of `named`, in its order."""
        return tuple(self.named(inputs).values())

    def named(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """From `INPUTS_OF_MANY`."""
        prediction = self.whole(batch_of_many(inputs))
        told = {name: getattr(prediction, name, None) for name in (LOGIT, *OF_SCENARIOS)}
        return {name: value for name, value in told.items() if value is not None}


def logit_of(model: ClickModel, batch: Batch, sides: Sides | None = None) -> Tensor:
    """(N,) the logit of one request's candidates; a hardened request computes its one scenario."""
    if _hardens_requests(model):
        return model.logit_of_one_scenario(batch, sides)  # type: ignore[operator, no-any-return]
    return _predict(model, batch, sides).logit


def _predict(model: ClickModel, batch: Batch, sides: Sides | None) -> Prediction:
    return model.predict(sides, batch) if isinstance(model, Musenet) and sides is not None else model(batch)


def export_graphs(model: ClickModel, schema: Schema, folder: Path) -> None:
    """Write what `graphs_of` gives, each as `<name>.onnx`.

    Args:
        model: with trained weights, ready to score; it stays as it is.
        schema: of the batches.
        folder: where to.
    """
    for name, graph in graphs_of(model, schema).items():
        onnx.save(graph, folder / f"{name}.onnx")


def graphs_of(model: ClickModel, schema: Schema) -> dict[str, ModelProto]:
    """`request`, `candidates`, `explanation`, the first and the last if there is anything to compute.

    And, of a model with a repeat branch, the first two once more without it, for requests in which nothing repeats; and
    `requests`, the whole of it for many at once.
    """
    example = _example(schema, model.table.size)
    whole = _traced(Answers(model), {name: example[name] for name in INPUTS}, _SIZES)
    answers = [value.name for value in whole.graph.output]
    found: dict[str, ModelProto | None] = {}
    for suffix in ("", WITHOUT_REPEATS):
        if f"{LOGIT}{suffix}" in answers:
            found[f"request{suffix}"], found[f"candidates{suffix}"] = cut(whole, f"{LOGIT}{suffix}")
    explanations = [name for name in answers if name in EXPLANATIONS]
    found["explanation"] = _extracted(whole, INPUTS, explanations) if explanations else None
    found[MANY] = _of_many(model, example)
    return {name: graph for name, graph in found.items() if graph is not None}


def cut(whole: ModelProto, logit: str) -> tuple[ModelProto | None, ModelProto]:
    """The request's part and the candidates' part of what computes one answer, which becomes the logit."""
    whole = onnx.shape_inference.infer_shapes(_extracted(whole, INPUTS, [logit]))
    graph = whole.graph
    inputs = [value.name for value in graph.input]
    of_candidates = {name for name in inputs if name in OF_CANDIDATES}
    of_request = {name for name in inputs if name not in OF_CANDIDATES}
    handed_over: dict[str, None] = {}
    for node in graph.node:
        node.output[:] = [LOGIT if name == logit else name for name in node.output]
        used = set(_used(node))
        if used & of_candidates:
            of_candidates |= set(node.output)
            handed_over |= dict.fromkeys(name for name in _used(node) if name in of_request - set(inputs))
        elif used & of_request:
            of_request |= set(node.output)
    graph.output[0].name = LOGIT
    between = list(handed_over)
    request = _extracted(whole, [name for name in inputs if name in of_request], between) if between else None
    return request, _extracted(whole, [*inputs, *between], [LOGIT])


def _used(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those read inside its branches included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in _branches(attribute):
            for inner in graph.node:
                yield from _used(inner)


def _branches(attribute: Any) -> Iterable[GraphProto]:
    return [attribute.g] if attribute.HasField("g") else attribute.graphs


def _extracted(whole: ModelProto, inputs: Iterable[str], outputs: list[str]) -> ModelProto:
    """What computes these values of a graph from those; inputs that nothing reads are left out."""
    model = onnx.utils.Extractor(whole).extract_model(list(inputs), outputs)
    used = {name for node in model.graph.node for name in _used(node)} | set(outputs)
    kept = [value for value in model.graph.input if value.name in used]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    onnx.checker.check_model(model)
    return model


def _of_many(model: ClickModel, example: dict[str, Tensor]) -> ModelProto:
    """The model for any number of requests, on the example of four."""
    requests = 4
    shared = {name: torch.cat([example[name]] * requests) for name in _OF_REQUESTS}
    events = torch.stack([example["history_codes"]] * requests)
    more = {"history_codes": events, "history_lengths": torch.tensor([2, 2, 2, 2]), "request": torch.tensor([0, 2, 3])}
    whole = _traced(AnswersToMany(model), example | shared | more, _SIZES_OF_MANY)
    return _extracted(whole, INPUTS_OF_MANY, [value.name for value in whole.graph.output])


def _traced(
    module: Answers | AnswersToMany, example: dict[str, Tensor], sizes: Mapping[str, Sequence[Any]]
) -> ModelProto:
    """The module as ONNX, for any of the `sizes`."""
    shapes = {name: dict(enumerate(sizes[name])) if name in sizes else None for name in example}
    inputs = tuple(example.values())
    with torch.no_grad(), _quietly(), _refusal_explained(type(module.whole).__name__):
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            input_names=list(example),
            output_names=list(module.named(inputs)),
            dynamic_shapes=(tuple(shapes.values()),),
            custom_translation_table=_TRANSLATIONS,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model: ModelProto = program.model_proto
    for one in (*model.graph.node, *model.graph.value_info):
        del one.metadata_props[:]  # where in whose files it was made
    _compute_constants(model.graph)
    return model


def _compute_constants(graph: GraphProto) -> None:
    """Outputs that are the same for every request become a node's, as those that are cut out have to be."""
    outputs = {value.name for value in graph.output}
    constants = [value for value in graph.initializer if value.name in outputs]
    names = {value.name: f"{value.name}_of_all" for value in constants}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    for value in constants:
        value.name = names[value.name]
    graph.node.extend(onnx.helper.make_node("Identity", [inner], [name]) for name, inner in names.items())


@contextmanager
def _refusal_explained(model: str) -> Iterator[None]:
    """Torch answers what it cannot trace in pages; what stopped it is in the error that it had first."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        raise ExportError(
            f"{model} cannot become a graph ({type(cause).__name__}: {str(cause).splitlines()[0]}): compute with "
            "tensors alone what depends on values of the batch, see docs/extending.md"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Torch tells its own developers of what it translates."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _log_sigmoid(x: Any) -> Any:
    """-log(1 + exp(-x)): torch's own translation, log(sigmoid(x)), is -inf for x below -88."""
    return opset18.Neg(opset18.Softplus(opset18.Neg(x)))


def _logaddexp(x: Any, y: Any) -> Any:
    """x + log(1 + exp(y - x)): torch's own translation, log(exp(x) + exp(y)), is inf for x above 88."""
    return opset18.Add(x, opset18.Softplus(opset18.Sub(y, x)))


_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.log_sigmoid.default: _log_sigmoid,
    torch.ops.aten.logaddexp.default: _logaddexp,
}
"""Operators that torch translates otherwise."""


def _example(schema: Schema, embedding: int) -> dict[str, Tensor]:
    """One request of three candidates and two events; sizes that differ, so that none is taken for another."""
    rows, events, candidates = 11, 2, 3
    generator = torch.Generator().manual_seed(0)

    def codes(count: int, width: int) -> Tensor:
        return torch.randint(1, rows, (count, width), generator=generator)

    def numbers(count: int, width: int) -> Tensor:
        return torch.rand(count, width, generator=generator)

    repeats = numbers(candidates, 3)
    repeats[:, 0] = torch.tensor([1.0, 0.0, 1.0])
    return {
        "values": numbers(rows, embedding),
        "request_codes": codes(1, sum(field.width for field in schema.request_fields)),
        "history_codes": codes(events, len(schema.history_fields)),
        "request_dense": numbers(1, len(schema.request_dense)),
        "predefined_scenario": torch.zeros(1, dtype=torch.long),
        "candidate_codes": codes(candidates, sum(field.width for field in schema.candidate_fields)),
        "candidate_dense": numbers(candidates, len(schema.candidate_dense)),
        "repeat_features": repeats,
    }


def _predicts_from_sides(model: nn.Module) -> TypeGuard[Musenet]:
    """Whether `predict` says all that the model does: a class of another package may add to it in its own `forward`."""
    return isinstance(model, Musenet) and type(model).forward is Musenet.forward


def _hardens_requests(model: nn.Module) -> bool:
    """Whether the model gives every request one scenario, and that scenario's logit is its own.

    The paper's own hard version gives it to candidates; a class of another package may add to the logit.
    """
    return _predicts_from_sides(model) and type(model).predict is Musenet.predict and model.options.hardens
