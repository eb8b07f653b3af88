"""How much memory a pass may take."""

import os
import time
from pathlib import Path

import torch

SHARE = 0.6  # of what is free: the rest is for the renders' own state, and for other processes
TOLD_SECONDS = 1.0  # so long a GPU's driver is believed; to ask it takes as long as a small step
CGROUP = Path("/sys/fs/cgroup")  # version 2, where a container's limits are


def budget_bytes(device: torch.device, spare_bytes: int = 0) -> int:
    """What the features of a pass may take on a device.

    spare_bytes: what this pass takes over from earlier ones, less what is needed beside it.
    """
    return int(SHARE * max(0, free_bytes(device) + spare_bytes))


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free_bytes(device: torch.device) -> float:
    """What a device has left for this process."""
    if device.type == "cuda":
        return _left_on_gpu(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return min(_available_bytes(), _left_in_container())


def _left_on_gpu(device: torch.device) -> int:
    held = torch.cuda.memory_stats_as_nested_dict(device)
    reserved, used = (
        held[name]["all"]["current"] for name in ("reserved_bytes", "allocated_bytes")
    )
    at, ours = _told.get(device, (0.0, 0))
    if time.monotonic() - at > TOLD_SECONDS:
        ours = torch.cuda.mem_get_info(device)[0] + reserved
        _told[device] = time.monotonic(), ours
    return int(ours - used)


# When each GPU's driver was asked, and what torch had or could have had then: that changes only
# with what other processes take.
_told: dict[torch.device, tuple[float, int]] = {}


def _available_bytes() -> int:
    """What can be had without swapping; where a system does not tell, half of what it has."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_in_container() -> float:
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return float("inf")
