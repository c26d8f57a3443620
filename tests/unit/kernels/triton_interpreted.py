"""The Triton kernels in Triton's interpreter, on host memory; run with TRITON_INTERPRET=1."""

import sys

import torch

from p2p_kernels.triton_digest import TritonDigester
from p2p_kernels.triton_kernels import TritonCopier
from tests.unit.kernels.properties import (
    check_digests,
    check_engine_sizes,
    check_gather,
    check_scatter,
)

if __name__ == "__main__":
    examples = int(sys.argv[1])
    check_gather(TritonCopier, examples)
    check_scatter(TritonCopier, examples)
    check_engine_sizes(TritonCopier)
    check_digests(TritonDigester(torch.device("cpu")))
    print("passed")
