"""How cuDNN is told to convolve."""

from contextlib import AbstractContextManager

import torch


def cudnn(dtype: torch.dtype) -> AbstractContextManager[None]:
    """While it convolves in a dtype.

    float32 is the reference: the same algorithm at each call, and no TF32, which drops 13 of the
    mantissa's 23 bits. Nothing is tuned: to try all algorithms took 0.8 s at each new size, and
    steps of 512 px were no shorter by the fastest (H200, bfloat16).
    """
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=dtype == torch.float32, allow_tf32=False
    )
