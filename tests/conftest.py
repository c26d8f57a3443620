"""For all tests: opening a paged cache measures nothing and leaves no file behind."""

import os

os.environ.setdefault("P2P_KERNELS_CALIBRATION", "off")
os.environ.setdefault("P2P_KERNELS_COST_FILE", "none")
