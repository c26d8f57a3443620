"""Shows which implementations can run on this machine, what they reach, and which is chosen."""

import argparse
import logging
import sys

from p2p.config import load_settings
from p2p.errors import P2PError
from p2p_kernels.calibration import PLAIN_COPY, Calibration
from p2p_kernels.candidates import directions
from p2p_kernels.cost_file import CostFile
from p2p_kernels.costs import LayoutKind
from p2p_kernels.machine import device_key
from p2p_kernels.registry import ENTRIES, Implementation
from p2p_kernels.settings import KernelSettings, cost_path
from p2p_kernels.table import cost_table, reasons, runners_table

_MEASURE_S = 60.0
_PATIENCE = 50.0


def main() -> int:
    """Prints the tables; returns the exit status."""
    arguments = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        settings = load_settings(KernelSettings, file=arguments.config)
        why_not = reasons(arguments.device)
        path = cost_path(settings)
        if arguments.measure:
            wanted = arguments.only or list(ENTRIES)
            _measure(arguments.device, CostFile(path), [n for n in wanted if not why_not[n]])
    except P2PError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    out = [f"device: {device_key(arguments.device)}", f"costs:  {path}"]
    out.append(f"forced: {settings.implementation}" if settings.implementation != "auto" else "")
    out += runners_table(why_not)
    for kind in LayoutKind:
        for way in directions(arguments.device):
            costs = CostFile(path).load(device_key(arguments.device), kind, way)
            out += ["", *cost_table(kind, way, costs, why_not)]
    sys.stdout.write("\n".join(out) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m p2p_kernels", description=__doc__)
    parser.add_argument("--device", default="cpu", help="as torch writes it (default: cpu)")
    parser.add_argument("--config", metavar="FILE", help="a TOML file with a table [kernels]")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure all that can run, also what compiles first (a minute or two), and keep it",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(ENTRIES),
        type=Implementation,
        metavar="NAME",
        help="with --measure: this one; may be given several times",
    )
    return parser.parse_args()


def _measure(device: str, file: CostFile, can_run: list[Implementation]) -> None:
    """Measures what starts at once in turns, and then each that compiles first by itself."""
    calibration = Calibration(device, patience=_PATIENCE)
    groups = [[PLAIN_COPY, *(name for name in can_run if not ENTRIES[name].starts_slowly)]]
    groups += [[name] for name in can_run if ENTRIES[name].starts_slowly]
    for kind in LayoutKind:
        for way in directions(device):
            for names in groups:
                sys.stderr.write(f"measuring {way}, {kind}: {', '.join(names)}\n")
                costs = calibration.measure(names, kind, way, _MEASURE_S)
                file.save(device_key(device), kind, way, costs)


if __name__ == "__main__":
    sys.exit(main())
