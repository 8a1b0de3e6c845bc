"""YAML as people write it: bounded in length, in depth and in what its aliases unfold to, no key given twice."""

from pathlib import Path
from typing import Any

import yaml

from musenet.config.written import Content
from musenet.errors import ConfigError

LONGEST, DEEPEST, LARGEST = 1 << 18, 50, 100_000
"""Characters of a text, levels of what it holds, and values with every alias unfolded."""


def read_content(path: Path) -> tuple[Content, str]:
    """The keys and values of a YAML file, and its text; raises `ConfigError` for what is none."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
        content = read_yaml(text)
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no file {path}: give the path of a configuration (`musenet init` writes one)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a text file ({getattr(error, 'strerror', None) or error}): "
            "give the path of a configuration"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} must hold keys and values (name, data, features, …), but holds {type(content).__name__}"
        )
    return content, text


def read_yaml(text: str) -> Any:
    """What a text holds: mappings by text keys, lists, and single values; dates are text.

    Raises:
        ValueError: saying in one line why it cannot be used, a mistake in it or one of the bounds.
    """
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST:,} characters, as no configuration is")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Bounds().measure(node)
            return _plain(loader.construct_document(node))
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError(f"is nested deeper than {DEEPEST} levels") from None
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # of a value that its tag does not fit
        raise ValueError(f"is not valid YAML: a value does not fit its tag ({error})") from error


class _Bounds:
    """Measures what a text unfolds to, each shared part once, before anything is built of it."""

    def __init__(self) -> None:
        self._known: dict[yaml.Node, tuple[int, int]] = {}
        self._within: set[yaml.Node] = set()

    def measure(self, node: yaml.Node) -> tuple[int, int]:
        """Values and levels; raises `ValueError` if there are too many, it holds itself or gives a key twice."""
        if node in self._within:
            raise ValueError(
                f"holds itself: an alias of the value that begins at line {node.start_mark.line + 1} is inside it"
            )
        if node not in self._known:
            self._within.add(node)
            parts = [self.measure(part) for part in _parts(node)]
            self._within.remove(node)
            size, depth = 1 + sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)
            if size > LARGEST or depth > DEEPEST:
                what = f"more than {LARGEST:,} values" if size > LARGEST else f"deeper than {DEEPEST} levels"
                raise ValueError(f"unfolds to {what} at line {node.start_mark.line + 1}")
            self._known[node] = (size, depth)
        return self._known[node]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
            raise ValueError(f"gives the key '{key.value}' twice, at lines {lines[key.value]} and {line}")
    return [part for pair in node.value for part in pair]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
