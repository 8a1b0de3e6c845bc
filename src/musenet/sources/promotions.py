"""Which products were promoted in a store and week, and a thin even sample of those that a basket left there.

Twenty million promotions are one sorted array of integers; a store's week is a slice of it, and a basket's negatives
are positions in that slice. Nothing is joined, so nothing explodes.
"""

from dataclasses import dataclass

import ibis.expr.types as ir
import numpy as np

from musenet.engines.engine import Engine

_CODE_BITS, _PRODUCT_BITS, _WEEK_BITS = 6, 26, 6
_PLACE_BITS = 2 * _CODE_BITS
_FIRST_CODE = ord("0")


@dataclass(frozen=True)
class Candidates:
    """Promoted products shown to baskets, one row each, in order of basket and product."""

    basket: np.ndarray
    """(N,) position of the basket among those given."""
    product: np.ndarray
    display: np.ndarray
    """(N,) code of the display place, as a character; `0` is none."""
    mailer: np.ndarray
    bought: np.ndarray
    """(N,) bool."""
    keep_probability: float
    """Share of the promoted, unbought products that were kept."""


class Promotions:
    """Products promoted per store and week.

    Args:
        engine: where they lie.
        promotions: product_id, store_id, week, display_location, mailer_location. A product may be repeated in a
            store's week: the place with the highest code stands for all, so that the order of rows does not matter.
        left_out: product ids that are no candidates (fuel and the like).
    """

    def __init__(self, engine: Engine, promotions: ir.Table, left_out: np.ndarray) -> None:
        place = _code(promotions.display_location) * 2**_CODE_BITS + _code(promotions.mailer_location)
        key = (promotions.store_id * 2**_WEEK_BITS + promotions.week) * 2**_PRODUCT_BITS + promotions.product_id
        rows = np.sort(engine.read(promotions.select(row=key * 2**_PLACE_BITS + place))["row"].to_numpy())
        rows = rows[~np.isin((rows >> _PLACE_BITS) % 2**_PRODUCT_BITS, left_out)]
        keys = rows >> _PLACE_BITS
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        self.surplus = len(rows) - len(first)
        """Rows beyond the first of a product in a store and week."""
        self._keys = keys[first]
        self._display = np.maximum.reduceat((rows >> _CODE_BITS) % 2**_CODE_BITS, first)
        self._mailer = np.maximum.reduceat(rows % 2**_CODE_BITS, first)

    def stores(self) -> np.ndarray:
        """Stores with at least one promotion, ascending."""
        return np.unique(self._keys >> (_WEEK_BITS + _PRODUCT_BITS))

    def find(self, store: np.ndarray, week: np.ndarray, product: np.ndarray) -> np.ndarray:
        """Where products stand among all promotions; -1 if not promoted in that store and week."""
        keys = _key(store, week, product)
        found = np.searchsorted(self._keys, keys)
        return np.where(self._keys[np.minimum(found, len(self._keys) - 1)] == keys, found, -1)

    def draw(
        self,
        store: np.ndarray,
        week: np.ndarray,
        bought_by: np.ndarray,
        bought: np.ndarray,
        per_positive: float,
        random: np.random.Generator,
    ) -> Candidates:
        """Every promoted product bought, and each other one with a single probability.

        One probability for all, so that how long a basket's list is says nothing of how many of it were bought.

        Args:
            store: (R,) of each basket.
            week: (R,) of each basket.
            bought_by: (P,) position of the basket that bought each positive.
            bought: (P,) what `find` gave for it.
            per_positive: negatives per positive over all baskets together.
            random: draws the negatives.
        """
        begin = np.searchsorted(self._keys, _key(store, week, np.zeros_like(store)))
        size = np.searchsorted(self._keys, _key(store, week + 1, np.zeros_like(store))) - begin
        # All baskets' lists, end to end, are one line of places; a candidate is a place on it.
        end = np.cumsum(size)
        shift = begin - (end - size)
        positives = np.sort(bought - shift[bought_by])
        total = int(end[-1]) if len(end) else 0
        unbought = total - len(positives)
        probability = min(1.0, per_positive * len(positives) / unbought) if unbought else 1.0
        drawn = np.setdiff1d(_bernoulli_places(total, probability, random), positives, assume_unique=True)
        places = np.concatenate([positives, drawn])
        order = np.argsort(places, kind="stable")
        places = places[order]
        basket = np.searchsorted(end, places, side="right")
        row = places + shift[basket]
        return Candidates(
            basket=basket,
            product=self._keys[row] % 2**_PRODUCT_BITS,
            display=_characters(self._display[row]),
            mailer=_characters(self._mailer[row]),
            bought=(np.arange(len(places)) < len(positives))[order],
            keep_probability=probability,
        )


def _code(place: ir.StringColumn) -> ir.IntegerColumn:
    """A place's one character, `0` to `9` and `A` to `Z`, as a number in order."""
    return place.ascii_str().cast("int64") - _FIRST_CODE


def _characters(codes: np.ndarray) -> np.ndarray:
    letters: np.ndarray = (codes + _FIRST_CODE).astype(np.uint32).view("U1")
    return letters


def _key(store: np.ndarray, week: np.ndarray, product: np.ndarray) -> np.ndarray:
    key: np.ndarray = (store * 2**_WEEK_BITS + week) * 2**_PRODUCT_BITS + product
    return key


def _bernoulli_places(total: int, probability: float, random: np.random.Generator) -> np.ndarray:
    """The places among `total` that succeed, each with this probability: geometric skips from one to the next."""
    if probability >= 1 or not total:
        return np.arange(total)
    if probability <= 0:
        return np.arange(0)
    expected = total * probability
    last, found = -1, []
    while last < total:
        skips = random.geometric(probability, int(expected + 6 * expected**0.5) + 16)
        found.append(last + np.cumsum(skips))
        last = int(found[-1][-1])
    places = np.concatenate(found)
    return places[places < total]
