"""What may be said of a store's address: a password in it is for nobody's eyes."""

PASSWORD_VARIABLE, USER_VARIABLE = "MUSENET_STORE_PASSWORD", "MUSENET_STORE_USER"
"""Where the database's password and user stand."""
_PRIVATE = ("@", "password=", "username=")


def public(address: str) -> str:
    """The address as it may be said: whole, unless it holds a user or a password.

    >>> public("redis://host:6379/0")
    'redis://host:6379/0'
    >>> public("redis://:secret@host:6379/0")
    'redis://…'
    """
    scheme, mark, rest = address.partition("://")
    return f"{scheme}://…" if mark and any(one in rest for one in _PRIVATE) else address
