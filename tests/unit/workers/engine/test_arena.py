from contextlib import suppress

import torch

from impasto.workers.engine.device.arena import Arena


def test_what_is_taken_again_is_the_same_memory_with_what_was_in_it() -> None:
    arena = Arena()
    first = arena.take("features", (2, 3, 4)).fill_(7)
    again = arena.take("features", (2, 3, 4))
    assert again.data_ptr() == first.data_ptr()
    assert again.eq(7).all()


def test_less_is_the_beginning_of_what_is_kept() -> None:
    arena = Arena()
    large = arena.take("features", (10, 10))
    large.copy_(torch.arange(100.0).view(10, 10))
    small = arena.take("features", (3, 5))
    assert small.shape == (3, 5)
    assert small.is_contiguous()
    assert small.flatten().tolist() == list(range(15))
    assert arena.take("features", (100,)).data_ptr() == large.data_ptr()


def test_a_buffer_grows_when_it_must_and_leaves_what_was_taken_alone() -> None:
    arena = Arena()
    small = arena.take("features", (4,)).fill_(7)
    arena.take("features", (5,)).fill_(8)
    assert small.eq(7).all()
    assert arena.size_bytes == 20


def test_names_and_types_do_not_share_memory() -> None:
    arena = Arena()
    one = arena.take("one", (4,)).fill_(1)
    other = arena.take("other", (4,)).fill_(2)
    rounded = arena.take("one", (4,), torch.bfloat16).fill_(3)
    assert (one.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert [tensor.tolist() for tensor in (one, other, rounded)] == [[1] * 4, [2] * 4, [3] * 4]


def test_its_size_is_what_it_holds() -> None:
    arena = Arena()
    assert arena.size_bytes == 0
    arena.take("one", (3, 5))
    arena.take("one", (2, 2))
    arena.take("other", (7,), torch.bfloat16)
    arena.take("other", (7,), torch.float64)
    assert arena.size_bytes == 3 * 5 * 4 + 7 * 2 + 7 * 8
    arena.clear()
    assert arena.size_bytes == 0


def test_nothing_can_be_taken_too() -> None:
    assert Arena().take("rows", (0, 5)).shape == (0, 5)


def test_what_is_taken_lies_on_the_arenas_device() -> None:
    assert Arena("meta").take("features", (2**40,)).device.type == "meta"


def test_what_is_temporary_leaves_nothing_behind_but_what_was_there() -> None:
    arena = Arena()
    kept = arena.take("kept", (5,))
    arena.take("small", (2,))
    generation = arena.generation
    with suppress(torch.OutOfMemoryError), arena.temporary():
        assert arena.take("kept", (4,)).data_ptr() == kept.data_ptr()
        arena.take("new", (7,))
        raise torch.OutOfMemoryError
    assert arena.generation == generation
    assert arena.size_bytes == 28
    with arena.temporary():
        arena.take("small", (3,))
    assert arena.generation == generation + 1
    assert arena.size_bytes == 20
