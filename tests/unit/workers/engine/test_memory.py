import pytest
import torch

from workers.engine import memory

MORE_THAN_AN_ADDRESS_REACHES = 2**60


def test_an_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(MORE_THAN_AN_ADDRESS_REACHES, dtype=torch.uint8)
    assert memory.is_exhausted(caught.value)


@pytest.mark.parametrize(
    ("error", "is_exhausted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_a_lack_of_memory_is_one(error: BaseException, is_exhausted: bool) -> None:
    assert memory.is_exhausted(error) == is_exhausted


def test_a_pass_may_take_a_share_of_what_is_free() -> None:
    found = memory.budget_bytes(torch.device("cpu"))
    assert 2**20 < found < 2**50
    assert isinstance(found, int)
