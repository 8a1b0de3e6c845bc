"""Bodies that an unlucky or hostile caller may send: too many columns, mistakes, levels, digits; or no JSON at all."""

import json
import random
from collections.abc import Callable, Iterator

SMALLEST, LARGEST = 100, 8 << 20
PATHS = ("/score", "/events", "/items")
_LISTS = {"/score": "candidates", "/events": "events", "/items": "items"}
_DIGITS = "1234567890"


def hostile_bodies(count: int, seed: int, largest: int = LARGEST) -> Iterator[tuple[str, str, bytes]]:
    """So many (kind, path, body) of all sizes, a third of them above an eighth of the largest; the same for a seed."""
    chance = random.Random(seed)
    for place in range(count):
        kind, make = list(KINDS.items())[place % len(KINDS)]
        size = int(SMALLEST * (largest / SMALLEST) ** chance.random() ** 0.5)
        path = chance.choice(PATHS)
        yield kind, path, make(chance, path, size)


def _row(path: str) -> str:
    return '"user":"u1","item":"i1"' if path == "/events" else '"item":"i1"'


def _whole(path: str, rows: str) -> bytes:
    user = '"user":"u1",' if path == "/score" else ""
    return f'{{{user}"{_LISTS[path]}":[{rows}]}}'.encode("utf-8", "surrogatepass")


def _column(path: str, value: str, name: str = "price") -> bytes:
    return _whole(path, f'{{{_row(path)},"{name}":{value}}}')


def _times(piece: str, size: int) -> str:
    return ",".join([piece] * max(1, size // (len(piece) + 1)))


def _named(chance: random.Random, size: int, value: str = "0") -> str:
    """So many different keys."""
    start = chance.randrange(10**6)
    return ",".join(f'"a{start + place}":{value}' for place in range(max(1, size // (10 + len(value)))))


def _unknown_keys(chance: random.Random, path: str, size: int) -> bytes:
    return _whole(path, f"{{{_row(path)}}}")[:-1] + f",{_named(chance, size)}}}".encode()


def _unknown_columns(chance: random.Random, path: str, size: int) -> bytes:
    return _whole(path, f"{{{_row(path)},{_named(chance, size, chance.choice(['0', '{}', '[{}]', 'null']))}}}")


def _unknown_context(chance: random.Random, path: str, size: int) -> bytes:
    return f'{{"user":"u1","candidates":[{{"item":"i1"}}],"context":{{{_named(chance, size)}}}}}'.encode()


def _mistaken_rows(chance: random.Random, path: str, size: int) -> bytes:
    wrong = ['{"item":1.5}', '{"item":null}', "{}", "0", '{"item":"i1","price":"dear"}', '{"item":"i1","colour":{}}']
    return _whole(path, _times(chance.choice(wrong), size))


def _mistaken_columns(chance: random.Random, path: str, size: int) -> bytes:
    rows = chance.choice([10, 100, 1000, 10_000])
    return _whole(
        path, _times(f"{{{_row(path)},{_named(chance, size // rows, chance.choice(['{}', '[{}]', '0']))}}}", size)
    )


def _mistaken_history(chance: random.Random, path: str, size: int) -> bytes:
    wrong = ['{"time":"x"}', '{"kind":1}', '{"item":[]}', '{"time":true}', '{"a":{}}', "{}"]
    rows = _times(chance.choice(wrong), size)
    return f'{{"user":"u1","candidates":[{{"item":"i1"}}],"history":[{rows}]}}'.encode()


def _deep(chance: random.Random, path: str, size: int) -> bytes:
    opened, closed = chance.choice([("[", "]"), ('{"a":', "}"), ('{"item":[', "]}")])
    levels = size // (len(opened) + len(closed))
    value = opened * levels + "0" + closed * levels
    return chance.choice([value.encode(), _column(path, value), _whole(path, value)])


def _many_values(chance: random.Random, path: str, size: int) -> bytes:
    piece = chance.choice(["0", "null", "1.5", '""', "{}", "[]", '{"a":0}', "[[]]", "true"])
    return chance.choice([_column(path, f"[{_times(piece, size)}]"), _whole(path, _times(piece, size))])


def _many_lists(chance: random.Random, path: str, size: int) -> bytes:
    many = f"[{_times(chance.choice(['0', 'null', '{}']), 4000)}]"
    return _whole(path, f"{{{_row(path)},{_named(chance, size, many)}}}")


def _long_text(chance: random.Random, path: str, size: int) -> bytes:
    piece = chance.choice(["a", "é", r"\u0041", r"\ud83d\ude00", r"\ud800", "\\\\", "😀"])
    text = f'"{piece * (size // len(piece.encode()))}"'
    return chance.choice([_column(path, text), _whole(path, f'{{"item":{text}}}'), f"{{{text}:{text}}}".encode()])


def _long_number(chance: random.Random, path: str, size: int) -> bytes:
    digits = _DIGITS * (size // len(_DIGITS))
    number = chance.choice([digits, f"-{digits}", f"0.{digits}", f"{digits}.5", f"1e{digits}", f"1E-{digits}"])
    return _column(path, number)


def _many_numbers(chance: random.Random, path: str, size: int) -> bytes:
    number = chance.choice([_DIGITS * 400, f"0.{_DIGITS * 400}", "1e308", "1e999", "-0", "NaN", "Infinity"])
    return _whole(path, _times(f'{{"item":"i1","price":{number}}}', size))


def _twice(chance: random.Random, path: str, size: int) -> bytes:
    names = _times('"user":"u1"', size)
    return chance.choice([_whole(path, f"{{{_times(_row(path), size)}}}"), f"{{{names}}}".encode()])


def _cut(chance: random.Random, path: str, size: int) -> bytes:
    whole = _plain(chance, path, size)
    return whole[: chance.randrange(len(whole))]


def _flipped(chance: random.Random, path: str, size: int) -> bytes:
    whole = bytearray(_plain(chance, path, size))
    for _ in range(chance.randint(1, 20)):
        whole[chance.randrange(len(whole))] = chance.randrange(256)
    return bytes(whole)


def _noise(chance: random.Random, path: str, size: int) -> bytes:
    return chance.choice([chance.randbytes(size), b" " * size, b'"' * size, b"{" * size, b"\x00" * size])


def _plain(chance: random.Random, path: str, size: int) -> bytes:
    """As large a body as a caller may mean it."""
    row = {"item": f"i{chance.randrange(32)}", "price": 12.5} if path == "/score" else {"item": "i1"}
    if path == "/events":
        row |= {"user": "u1", "kind": "click", "time": 1_704_412_800 + chance.randrange(1000)}
    most = 1000 if path == "/events" else 10_000
    rows = [json.dumps(row)] * min(most, max(1, size // len(json.dumps(row))))
    return _whole(path, ",".join(rows))


KINDS: dict[str, Callable[[random.Random, str, int], bytes]] = {
    made.__name__[1:]: made
    for made in (
        _unknown_keys,
        _unknown_columns,
        _unknown_context,
        _mistaken_rows,
        _mistaken_columns,
        _mistaken_history,
        _deep,
        _many_values,
        _many_lists,
        _long_text,
        _long_number,
        _many_numbers,
        _twice,
        _cut,
        _flipped,
        _noise,
        _plain,
    )
}
