"""The next item is made while the one before is in use."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made by a thread of its own while the one before is in use; its errors are raised here.

    Who stops early does not wait for the item that is being made.

    Args:
        items: none of them None.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
    finally:
        thread.shutdown(wait=False)
