"""Runs ``cuda.bindings`` over a stand-in for the driver's library that copies host memory.

Run as a process, with the library's folder in LD_LIBRARY_PATH. Proves that lists, attributes and
stream reach the driver's function as its C interface says.
"""

import importlib
import sys

import numpy as np
import pytest

from p2p.errors import LocalError
from p2p_kernels.devices.streams import HostStream
from p2p_kernels.dma_kernels import DmaCopier, DriverRanges
from tests.unit.kernels.properties import check_engine_sizes, check_gather, check_scatter

STREAM = 7  # what the stand-in insists on, and on the order of the stream, one attribute for all
SOURCE = """
#include <stddef.h>
#include <string.h>
typedef unsigned long long u64;
static int batch(u64 *to, u64 *from, size_t *sizes, size_t count, void *attributes, size_t *starts,
                 size_t num_attributes, void *stream) {
  if (stream != (void *)7 || num_attributes != 1 || starts[0] != 0 || *(int *)attributes != 1)
    return 1;
  for (size_t n = 0; n < count; ++n) {
    if (to[n] == 0) return 1;
    memcpy((void *)to[n], (void *)from[n], sizes[n]);
  }
  return 0;
}
static int version(int *number) { *number = 13000; return 0; }
int cuGetProcAddress_v2(const char *name, void **found, int cuda, u64 flags, int *status) {
  *found = 0;
  if (status) *status = 0;
  if (!strcmp(name, "cuMemcpyBatchAsync")) *found = (void *)batch;
  else if (!strcmp(name, "cuDriverGetVersion")) *found = (void *)version;
  else if (!strncmp(name, "cuGetProcAddress", 16)) *found = (void *)cuGetProcAddress_v2;
  return 0;
}
"""


def main(examples):
    driver = importlib.import_module("cuda.bindings.driver")
    ranges = DriverRanges(driver, HostStream(), STREAM, HostStream)

    def opened(memory):
        return DmaCopier(memory, ranges)

    check_gather(opened, examples)
    check_scatter(opened, examples)
    check_engine_sizes(opened)
    with pytest.raises(LocalError, match="CUDA_ERROR_INVALID_VALUE"):
        ranges.copy(np.array([0]), np.array([4096]), np.array([8]))
    print("passed")


if __name__ == "__main__":
    main(int(sys.argv[1]))
