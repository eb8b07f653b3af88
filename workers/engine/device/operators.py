"""The operators of torch that it does not promise, each with what stands in where it is missing.

They are what the public ones are made of, and faster: a convolution whose kernels are laid out
once, results in memory that is there already, many small tensors in one call. A torch of another
version may lack some, or take other arguments; so each is tried once when this module is imported.
What stands in is public, and gives the same but for the last bits.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

PADDED_BY_1 = [1, 1], [1, 1], [1, 1], 1  # padding, stride, dilation, groups; or stride first

After = Literal["relu", "none"]


def mask_relu(gradient: Tensor, y: Tensor) -> None:
    """Sets a gradient to 0 where y is not above 0, in place."""
    if "threshold_backward" in FOUND:
        torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
    else:
        gradient.masked_fill_(y <= 0, 0)


def avg_pool_into(out: Tensor, y: Tensor) -> None:
    """2 x 2. y: (B, C, H, W). out: (B, C, H // 2, W // 2)."""
    if "avg_pool2d" in FOUND:
        torch.ops.aten.avg_pool2d.out(y, [2, 2], out=out)
    else:
        out.copy_(functional.avg_pool2d(y, 2))


def max_unpool(gradient: Tensor, y: Tensor) -> Tensor:
    """The gradient of y, (B, C, H, W), by that of its 2 x 2 max pool, (B, C, H // 2, W // 2)."""
    _, indices = functional.max_pool2d(y, 2, return_indices=True)
    if "max_pool2d" in FOUND:
        found: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient, y, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
        )
        return found
    flat = torch.zeros_like(y, memory_format=torch.contiguous_format).flatten(2)
    return flat.scatter_(2, indices.flatten(2), gradient.flatten(2)).view(y.shape)


def has_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 here, adding up in float32; with AVX-512 it does.

    Elsewhere torch has plain loops, and some of them add up in bfloat16. What it is asked by, the
    three below, is there if this is true.
    """
    return {"onednn", "bfloat16"} <= FOUND


def pack_kernels(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Kernels, (C', C, 3, 3), as `convolve` takes them. size: of an input that is usual."""
    packed: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(
        weight.contiguous().to_mkldnn(), *PADDED_BY_1, [1, weight.shape[1], *size]
    )
    return packed


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None, after: After) -> Tensor:
    """On the CPU, padded by 1. x: (B, C, H, W). Returns (B, C', H, W) in memory of its own."""
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, kernels, bias, *PADDED_BY_1, after, [], ""
    )
    return y


def convolve_into(
    out: Tensor, x: Tensor, kernels: Tensor, bias: Tensor | None, after: After
) -> Tensor:
    """The same into out, (B, C', H, W): it adds to zeros, as it can write nowhere else."""
    then = None if after == "none" else after
    y: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        out.zero_(), x, kernels, bias, *PADDED_BY_1, "add", 1.0, then, [], ""
    )
    return y


def convolve_with_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """On a GPU, padded by 1. x: (B, C, H, W). weight: (C', C, 3, 3)."""
    if "cudnn" in FOUND:
        return torch.cudnn_convolution_relu(x, weight, bias, *PADDED_BY_1)
    return functional.conv2d(x, weight, bias, padding=1).clamp_min_(0)


def norms(tensors: Sequence[Tensor], order: float = 2) -> list[Tensor]:
    """Of each, (): the root of the sum of squares, or of order 1 the sum of absolute values."""
    if "foreach" in FOUND:
        return list(torch._foreach_norm(list(tensors), order))
    return [torch.linalg.vector_norm(one, order) for one in tensors]


def scaled(tensors: Sequence[Tensor], factors: Sequence[float]) -> list[Tensor]:
    """Each times its factor."""
    if "foreach" in FOUND:
        return list(torch._foreach_mul(list(tensors), list(factors)))
    return [one * factor for one, factor in zip(tensors, factors, strict=True)]


def scale(tensors: Sequence[Tensor], factors: Sequence[float]) -> None:
    """The same in place."""
    if "foreach" in FOUND:
        torch._foreach_mul_(list(tensors), list(factors))
        return
    for one, factor in zip(tensors, factors, strict=True):
        one.mul_(factor)


def divide(tensors: Sequence[Tensor], divisors: Sequence[float]) -> None:
    """Each by its divisor, in place."""
    if "foreach" in FOUND:
        torch._foreach_div_(list(tensors), list(divisors))
        return
    for one, divisor in zip(tensors, divisors, strict=True):
        one.div_(divisor)


def differences(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Each less its other."""
    if "foreach" in FOUND:
        return list(torch._foreach_sub(list(tensors), list(others)))
    return [one - other for one, other in zip(tensors, others, strict=True)]


def copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Each source into its target, in the target's dtype."""
    if "foreach" in FOUND:
        torch._foreach_copy_(list(targets), list(sources))
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


# What is tried at import: the functions above, on the smallest tensors, against a result.


def _try_threshold_backward() -> bool:
    gradient = torch.ones(2)
    mask_relu(gradient, torch.tensor((0.0, 1.0)))
    return gradient.tolist() == [0, 1]


def _try_avg_pool2d() -> bool:
    out = torch.empty(1, 1, 1, 1)
    avg_pool_into(out, torch.ones(1, 1, 2, 2))
    return out.item() == 1


def _try_max_pool2d() -> bool:
    found = max_unpool(torch.ones(1, 1, 1, 1), torch.arange(4.0).view(1, 1, 2, 2))
    return found.flatten().tolist() == [0, 0, 0, 1]


def _try_onednn() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x = torch.ones(1, 16, 3, 3).contiguous(memory_format=torch.channels_last)
    kernels = pack_kernels(torch.ones(16, 16, 3, 3), (3, 3))
    alone = convolve(x, kernels, None, "relu")
    added = convolve_into(torch.empty_like(x), x, kernels, None, "relu")
    middles = [y[0, 0, 1, 1].item() for y in (alone, added)]
    return middles == [16 * 9, 16 * 9]


def _try_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _try_cudnn() -> bool:
    return hasattr(torch, "cudnn_convolution_relu")


def _try_foreach() -> bool:
    ones, out = [torch.ones(2), torch.ones(3)], [torch.empty(2), torch.empty(3)]
    copy(out, scaled(differences(ones, ones), [1.0, 2.0]))
    scale(out, [1.0, 2.0])
    divide(out, [1.0, 2.0])
    return [one.item() for one in norms(out, 1)] == [0, 0]


_TRIES: dict[str, Callable[[], bool]] = {
    "threshold_backward": _try_threshold_backward,
    "avg_pool2d": _try_avg_pool2d,
    "max_pool2d": _try_max_pool2d,
    "onednn": _try_onednn,
    "bfloat16": _try_bfloat16,
    "cudnn": _try_cudnn,
    "foreach": _try_foreach,
}


def find() -> set[str]:
    """Of FOUND, the operators that are there and do what is expected of them."""
    return {name for name in FOUND if _is_true(_TRIES[name])}


def _is_true(works: Callable[[], bool]) -> bool:
    try:
        return works()
    except (AttributeError, RuntimeError, TypeError):  # missing; not built in; other arguments
        return False


FOUND = set(_TRIES)  # until each was tried: what stands in for one is not what is to be tried
FOUND = find()
