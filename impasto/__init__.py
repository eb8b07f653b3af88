"""Neural style transfer as a service. For apps: `from impasto import Client`.

The one name that Impasto takes in an environment. What lies below it is in the folders `services`,
`workers` and `shared` of the checkout, to which the links in this one lead.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impasto.services.client import *  # noqa: F403

_CLIENT = "impasto.services.client"


def __getattr__(name: str) -> object:
    """A name of the client's, which is imported with the first of them.

    A worker or a server has no use for it, nor what it needs.
    """
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return getattr(import_module(_CLIENT), name)
    except AttributeError:
        raise AttributeError(f"module 'impasto' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module(_CLIENT).__all__})
