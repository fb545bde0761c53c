"""What a test of an agent needs: a bed that runs it on the log's twin, and virtual time."""

from hocket.testing.bed import Bed
from hocket.testing.loop import Stuck, VirtualLoop, run_virtual

__all__ = ["Bed", "Stuck", "VirtualLoop", "run_virtual"]
