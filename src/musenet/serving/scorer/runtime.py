"""Computes an export's graphs with ONNX Runtime, on one thread unless told otherwise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from musenet.errors import ExportError, UserError

Arrays = Mapping[str, NDArray[Any]]
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
            raise UserError("scoring needs ONNX Runtime: install it with pip install 'musenet[serve]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3

        def graph(name: str) -> "Graph | None":
            file = folder / f"{name}.onnx"
            if not file.is_file():
                return None
            try:
                return Graph(onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]))
            except Exception as error:  # the runtime's own errors share no base class
                raise ExportError(f"{file} cannot be loaded ({' '.join(str(error).split())[:200]})") from error

        candidates = graph("candidates")
        if candidates is None:
            raise ExportError(f"{folder / 'candidates.onnx'} is missing: export the run again")
        self._request, self._candidates, self._explanation = graph("request"), candidates, graph("explanation")
        without = graph(f"candidates{WITHOUT_REPEATS}")
        self._without_repeats = None if without is None else (graph(f"request{WITHOUT_REPEATS}"), without)

    def reads(self, name: str) -> bool:
        """Whether the model looks at this input."""
        return any(graph is not None and name in graph.inputs for graph in (self._request, self._candidates))

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
        self._outputs = [value.name for value in session.get_outputs()]

    def __call__(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs by name."""
        found = self._session.run(self._outputs, {name: inputs[name] for name in self.inputs})
        return dict(zip(self._outputs, found, strict=True))
