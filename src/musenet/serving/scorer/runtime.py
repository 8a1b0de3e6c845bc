"""Computes an export's graphs with ONNX Runtime, on one thread unless told otherwise."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from musenet.errors import ExportError, missing_extra, one_line

Arrays = Mapping[str, NDArray[Any]]
MANY = "requests"
"""The name of the graph that answers many requests at once."""
WITHOUT_REPEATS = "_without_repeats"
"""What the names of graphs end with that leave the repeat branch out."""


class Runtime:
    """The graphs of an export folder.

    Args:
        folder: of the export.
        threads: that a request is computed with.

    Raises:
        UserError: if the extra `serve` is not installed.
        ExportError: if a graph cannot be read.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing_extra("scoring needs ONNX Runtime", "serve") from error
        self._folder = folder
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.log_severity_level = 3
        self._request, self._candidates = self._graph("request"), self._needed("candidates")
        self._explanation = self._graph("explanation")
        without = self._graph(f"candidates{WITHOUT_REPEATS}")
        self._without_repeats = None if without is None else (self._graph(f"request{WITHOUT_REPEATS}"), without)

    @cached_property
    def many(self) -> "Graph":
        """The graph of many requests at once, opened when files are scored; raises `ExportError` if there is none."""
        return self._needed(MANY)

    def _needed(self, name: str) -> "Graph":
        graph = self._graph(name)
        if graph is None:
            raise ExportError(f"{self._folder / name}.onnx is missing: export the run again")
        return graph

    def _graph(self, name: str) -> "Graph | None":
        import onnxruntime

        file = self._folder / f"{name}.onnx"
        if not file.is_file():
            return None
        try:
            return Graph(onnxruntime.InferenceSession(file, self._options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # the runtime's own errors share no base class
            raise ExportError(f"{file} cannot be loaded ({one_line(error)})") from error

    def reads(self, name: str) -> bool:
        """Whether the model looks at this input."""
        return any(graph is not None and name in graph.inputs for graph in (self._request, self._candidates))

    def explains(self, *names: str) -> bool:
        """Whether `explain` tells all of these."""
        return self._explanation is not None and set(names) <= set(self._explanation.outputs)

    def logit(self, inputs: Arrays) -> NDArray[Any]:
        """(N,) of one request's candidates; what depends on the request alone is computed once."""
        request, candidates = self._request, self._candidates
        if self._without_repeats is not None and not inputs["repeat_features"][:, 0].any():
            request, candidates = self._without_repeats
        handed_over = request(inputs) if request else {}
        return candidates({**inputs, **handed_over})["logit"]

    def explain(self, inputs: Arrays) -> Arrays:
        """What else the model says, by name; see `graphs.EXPLANATIONS`."""
        return self._explanation(inputs) if self._explanation else {}


class Graph:
    """One graph: takes what it needs of the named arrays, gives its own."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = [value.name for value in session.get_inputs()]
        """Names of the arrays that it takes."""
        self.outputs = [value.name for value in session.get_outputs()]
        """Names of those that it gives."""

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        found = self._session.run(self.outputs, {name: inputs[name] for name in self.inputs})
        return dict(zip(self.outputs, found, strict=True))
