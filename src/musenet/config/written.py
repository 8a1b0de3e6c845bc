"""An experiment as YAML: the text that it was read from as far as it still holds, and what was set since."""

import re
from typing import Any

import yaml

Content = dict[str, Any]
"""Keys and values of a configuration."""


def written(text: str, raw: Content, before: Content, after: Content) -> str:
    """The text, parts whose values changed written anew with their doubts (`# ?`) above them.

    Args:
        text: what was read, comments included; nothing if there is none.
        raw: the keys and values that it holds.
        before: the same in full, defaults included.
        after: in full, what is meant now.
    """
    changed = {key for key, value in after.items() if value != before.get(key)}
    blocks = _blocks(text)
    if {key for key, _ in blocks if key} != set(raw):  # another layout than a key at the beginning of a line
        return _dumped(_overlaid(raw, before, after))
    if any(key in changed and "&" in "".join(lines) for key, lines in blocks):
        changed |= {key for key, lines in blocks if key and re.search(r"(^|[\s{,\[])\*\w", "\n".join(lines))}
    found: list[str] = []
    for key, lines in blocks:
        if key in changed:
            found += [line.strip() for line in lines if line.lstrip().startswith("# ?")]
            found.append(_dumped({key: _overlaid(raw[key], before[key], after[key])}))
        else:
            found += lines
    more = [key for key in after if key in changed and key not in raw]
    found += [_dumped({key: _overlaid({}, before.get(key), after[key])}) for key in more]
    return "\n".join(found)


def _blocks(text: str) -> list[tuple[str | None, list[str]]]:
    """The lines of every key, and those that belong to none: comments at the beginning of a line."""
    blocks: list[tuple[str | None, list[str]]] = []
    for line in text.splitlines():
        key = re.match(r"([A-Za-z_]\w*):", line)
        if key or not blocks or line.startswith("#"):
            blocks.append((key[1] if key else None, []))
        blocks[-1][1].append(line)
    return blocks


def _overlaid(raw: Any, before: Any, after: Any) -> Any:
    """What was written, with the values that changed."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return raw if before == after else after
    kept = {key: value for key, value in (raw or {}).items() if key in after or key not in before}
    changed = (key for key, value in after.items() if value != before.get(key))
    return kept | {key: _overlaid(kept.get(key), before.get(key), after[key]) for key in changed}


def _dumped(content: Content) -> str:
    # The innermost values stand in braces, but never the whole.
    style = None if any(isinstance(value, dict | list) for value in content.values()) else False
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=style, width=120)
    return text.removesuffix("\n")
