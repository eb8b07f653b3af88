"""How much memory a pass may take."""

import os

import torch

SHARE = 0.6  # of what is free: the rest is for the renders' own state, and for other processes


def budget_bytes(device: torch.device) -> int:
    """What the features of a pass may take on a device, from what is free there now."""
    return int(SHARE * _free_bytes(device))


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
