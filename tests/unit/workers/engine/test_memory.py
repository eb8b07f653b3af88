from pathlib import Path

import pytest
import torch

from impasto.workers.engine.device import memory

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


def test_what_is_taken_over_counts_as_free_and_what_is_to_come_does_not() -> None:
    cpu = torch.device("cpu")
    assert memory.budget_bytes(cpu, 2**50) > 2**49 > memory.budget_bytes(cpu)
    assert memory.budget_bytes(cpu, -(2**50)) == 0


def test_a_container_with_a_limit_has_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    unlimited = memory.budget_bytes(torch.device("cpu"))
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory.budget_bytes(torch.device("cpu")) == int(0.6 * 600_000) < unlimited
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.budget_bytes(torch.device("cpu")) > 2**20
