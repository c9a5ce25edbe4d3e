"""The tests of `eks` find their neighbours, and those of `kube`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "kube")]
