"""Computes an export's graphs with ONNX Runtime, on one thread unless told otherwise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from musenet.errors import ExportError, UserError

Arrays = Mapping[str, NDArray[Any]]


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

    def reads(self, name: str) -> bool:
        """Whether the model looks at this input."""
        return any(graph is not None and name in graph.inputs for graph in (self._request, self._candidates))

    def logit(self, inputs: Arrays) -> NDArray[Any]:
        """(N,) of one request's candidates; what depends on the request alone is computed once."""
        handed_over = self._request(inputs) if self._request else {}
        return self._candidates({**inputs, **handed_over})["logit"]

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
