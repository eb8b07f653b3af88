"""Where things are: this checkout, its samples, and the programs beside its Python."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
SAMPLES = ROOT / "samples"
BIN = Path(sys.executable).parent
