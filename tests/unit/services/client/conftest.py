"""A real HTTP server that plays a script."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.arrange.scripted import Script, played


@pytest.fixture
def play() -> Iterator[Callable[..., Script]]:
    """`play(*answers)` starts a server that gives them."""
    with ExitStack() as stack:
        yield lambda *answers: stack.enter_context(played(answers))
