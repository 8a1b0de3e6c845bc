"""Lends the graphs of a model that was exported before: tracing takes many seconds, and most tests need any export.

Only a model that is equal to the byte, of an equal schema, gets what was traced, in whichever process; what the graphs
answer is tested by `serving/export/test_graphs.py`, which traces each.
"""

import fcntl
import hashlib
import itertools
import os
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest

from musenet.dataset.batch import Schema
from musenet.models.interface import ClickModel


@pytest.fixture(scope="session")
def graphs_traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from onnx import ModelProto

    from musenet.serving.export import graphs

    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"
    kept.mkdir(exist_ok=True)
    traced = graphs.graphs_of

    def once(model: ClickModel, schema: Schema) -> dict[str, Any]:
        name = _digest(model, schema)
        with open(kept / name, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            file.seek(0)
            content = file.read()
            if not content:
                found = traced(model, schema)
                file.write(pickle.dumps({name: graph.SerializeToString() for name, graph in found.items()}))
                return found
        return {name: ModelProto.FromString(graph) for name, graph in pickle.loads(content).items()}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(graphs, "graphs_of", once)
        yield


def _digest(model: ClickModel, schema: Schema) -> str:
    """Of all that a graph is made from: kinds and options of the layers, and the numbers in them."""
    found = hashlib.sha256(repr(schema).encode())
    for place, module in model.named_modules():
        options = {name: value for name, value in vars(module).items() if not name.startswith("_")}
        told = repr((place, type(module), sorted(options.items())))
        found.update(re.sub(r" at 0x[0-9a-f]+", "", told).encode())
    for place, values in itertools.chain(model.named_parameters(), model.named_buffers()):
        found.update(repr((place, values.dtype, values.shape)).encode())
        found.update(values.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
