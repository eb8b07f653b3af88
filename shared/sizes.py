"""How large a picture becomes."""


def canvas(width: int, height: int, long_side: int) -> tuple[int, int]:
    """The (width, height) of a picture scaled to a long side, in px, each at least 1."""
    scale = long_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
