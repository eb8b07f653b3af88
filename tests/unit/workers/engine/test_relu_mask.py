import pytest
import torch

from impasto.workers.engine.network import relu_mask

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_switches_tell_where_features_are_above_zero(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    y = torch.randn(2, 3, 5, 64, generator=generator).to(dtype).clamp_min(0)
    kept = torch.full((2, 3, 5 * 64 // 8), 255, dtype=torch.uint8)
    relu_mask.pack(y, kept)
    found = torch.full_like(y, torch.nan)
    relu_mask.unpack(kept, found)
    assert torch.equal(found > 0, y > 0)
    assert torch.equal(found == 0, y == 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_smallest_feature_is_above_zero_and_no_zero_is(dtype: torch.dtype) -> None:
    y = torch.tensor([0.0, -0.0, 1e-39, 1e-30, 2.0, torch.inf, 0.0, 1.0], dtype=dtype)
    kept, found = torch.empty(1, 1, 1, dtype=torch.uint8), torch.empty(1, 1, 1, 8, dtype=dtype)
    relu_mask.pack(y.view(1, 1, 1, 8), kept)
    relu_mask.unpack(kept, found)
    assert (found.flatten() > 0).tolist() == [False, False, True, True, True, True, False, True]


def test_rows_are_packed_alike_whichever_strip_they_lie_in() -> None:
    y = torch.randn(2, 9, 3, 64, generator=torch.Generator().manual_seed(2))
    whole, strips = torch.empty(2, 2, 9, 24, dtype=torch.uint8)
    relu_mask.pack(y, whole)
    for rows in (slice(0, 4), slice(4, 9)):
        relu_mask.pack(y[:, rows], strips[:, rows])
    assert torch.equal(whole, strips)
