"""The bodies that the API's description shows."""

from typing import Any

_EVENT = {"user": "u0000042", "item": "h000017", "kind": "click", "time": "2024-03-01T18:00:00Z", "id": "click-81723"}
SCORE: dict[str, Any] = {
    "from the store": {
        "summary": "a user whose history the store keeps",
        "value": {
            "user": "u0000042",
            "context": {"device": "phone", "days_ahead": 3},
            "candidates": [{"item": "h000017", "price": 120.5}, {"item": "h000018", "price": 89.0}],
        },
    },
    "with its history": {
        "summary": "a request with its own history and an explanation",
        "value": {
            "user": "u0000042",
            "time": "2024-03-02T09:30:00Z",
            "candidates": [{"item": "h000017"}],
            "history": [{"item": "h000017", "kind": "click", "time": "2024-03-01T18:00:00Z"}],
            "explain": True,
        },
    },
}
EVENTS: dict[str, Any] = {"a click": {"summary": "a user clicked", "value": {"events": [_EVENT]}}}
MIX: dict[str, Any] = {"freeze": {"summary": "keep the mix as it is", "value": {"frozen": True}}}
ITEMS: dict[str, Any] = {
    "a hotel": {"summary": "a new hotel", "value": {"items": [{"item": "h900001", "city": "c003", "stars": 4}]}}
}
