"""Items that a thread makes while those before are in use."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], count: int = 1) -> Iterator[Item]:
    """The same items, made by a thread of its own while earlier ones are in use; its errors are raised here.

    Who stops early does not wait for the items that are being made.

    Args:
        items: none of them None.
        count: how many are made ahead at most.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        coming: deque[Future[Item | None]] = deque(thread.submit(next, items, None) for _ in range(count))
        while (item := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, items, None))
            yield item
    finally:
        thread.shutdown(wait=False, cancel_futures=True)
