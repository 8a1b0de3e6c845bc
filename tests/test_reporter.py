"""What a person sees of the work: lines where nobody redraws, and in a notebook one bar per piece of work."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from musenet import reporter
from musenet.progress import SILENT, Listener, Moment
from musenet.reporter import Reporter, told


class Display:
    """Stands for `IPython.display`: keeps what was displayed, and what it was updated to."""

    def __init__(self) -> None:
        self.shown: list[list[str]] = []

    def display(self, bar: str, display_id: bool) -> SimpleNamespace:
        assert display_id
        self.shown.append([bar])
        return SimpleNamespace(update=self.shown[-1].append)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Display:
    display = Display()
    module: Any = SimpleNamespace(HTML=str, display=display.display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(reporter, "SECONDS_BETWEEN_BARS", 0)
    return display


def test_in_a_notebook_every_piece_of_work_has_one_bar_that_moves(notebook: Display) -> None:
    with Reporter(Console(file=io.StringIO(), force_jupyter=True)) as told_of:
        for name in ("prepare", "shop & <co>"):
            steps = told_of.steps(name)
            steps(1, 4)
            steps(4, 4)
    assert [len(bars) for bars in notebook.shown] == [2, 2]
    assert '<progress value="1" max="4">' in notebook.shown[0][0]
    assert '<progress value="4" max="4">' in notebook.shown[0][1]
    assert notebook.shown[1][0].startswith("shop &amp; &lt;co&gt; ")


def test_elsewhere_they_are_lines() -> None:
    file = io.StringIO()
    with Reporter(Console(file=file, width=200)) as told_of:
        told_of.training("shop")({"step": 3, "planned": 9, "valid": {"auc": 0.75, "logloss": 0.5}, "best": True})
        told_of.training("shop")({"step": 3, "planned": 9, "warnings": ["melted"]})
        told_of.steps("prepare")(1, 4)  # the next line is due in some seconds
        told_of.steps("prepare")(4, 4)
    assert file.getvalue().splitlines() == [
        "shop: step 3 of 9, validation AUC 0.7500, logloss 0.5000, the best so far",
        "shop: warning: melted",
        "prepare: 4 of 4, 0:00 to go",
    ]


def test_a_callback_is_a_listener() -> None:
    heard: list[Moment] = []
    with told(heard.append) as listener:
        listener.say("a line")
        listener.training("shop")({"step": 1, "planned": 2, "losses": {"click": 0.1}})
    assert [(moment.name, moment.of) for moment in heard] == [("said", ""), ("step", "shop")]
    assert heard[0].content == {"text": "a line"}
    mine = Listener(heard.append)
    with told(mine) as listener:
        assert listener is mine
    with told(SILENT) as listener:
        listener.say("nobody hears it")
    assert len(heard) == 2
