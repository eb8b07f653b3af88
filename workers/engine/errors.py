"""What can go wrong inside the engine."""


class EngineError(Exception):
    """The engine cannot go on with this render."""


class PlanError(EngineError):
    """A plan asks for something that the engine does not have."""


class ShapeError(EngineError):
    """An image does not have the shape that the next operation needs."""


class WeightsError(EngineError):
    """The network's weights are missing, damaged or of another network."""


class Diverged(EngineError):
    """The loss stopped being a finite number."""


class OutOfMemory(EngineError):
    """The device has no memory for the render, not even alone and in strips."""


class RunOver(EngineError):
    """The render has left the loop already."""


class LoopClosed(EngineError):
    """The loop was closed with the render still in it."""
