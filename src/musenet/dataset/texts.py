"""The one text form of a value."""

import pyarrow as pa
import pyarrow.compute as pc


def text_of(values: pa.Array) -> pa.Array:
    """The one text form of a plain value: 3 and 3.0 are `3`, true is `true`."""
    if pa.types.is_floating(values.type):
        whole = pc.equal(values, pc.trunc(values))
        small = pc.less(pc.abs(values), 2.0**53)
        integral = pc.fill_null(pc.and_(whole, small), False)
        integers = pc.if_else(integral, values, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(integral, integers, values.cast(pa.string()))
    return values.cast(pa.string())
