"""``python -m examples.p2p_sharing``: runs the demo and prints what came out.

Ends with 0 if every check held, 1 if one failed, 2 if the demo could not run, 130 after Ctrl-C.
"""

import argparse
import signal
import sys
from types import FrameType

import msgspec
from rich.console import Console

from examples.p2p_sharing.demo import run_demo
from examples.p2p_sharing.processes import DemoError
from examples.p2p_sharing.progress import StepBars, StepLines
from examples.p2p_sharing.report import Report
from examples.p2p_sharing.source import MISSING_MESSAGE, find_model
from examples.p2p_sharing.table import results_table

_MIN_WIDTH = 100  # of the table where there is no terminal that has a width


def main() -> int:
    """Runs the demo; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.p2p_sharing",
        description="Three instances share KV over NIXL while two of them are killed.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the results as JSON; progress goes to stderr"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=options.json)
    if not console.is_terminal:
        console.width = max(console.width, _MIN_WIDTH)
    if find_model().gguf is None:
        console.print(MISSING_MESSAGE, style="yellow", highlight=False)
    try:
        report = run_demo(StepBars(console) if console.is_terminal else StepLines(console))
    except DemoError as error:
        console.print(
            f"The demo could not run: {error}", style="red", highlight=False, markup=False
        )
        return 2
    except KeyboardInterrupt:
        console.print("Interrupted; all processes are ended.")
        return 130
    _show(report, console)
    if options.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    return 1 if report.failures else 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise KeyboardInterrupt


def _show(report: Report, console: Console) -> None:
    console.print()
    console.print(results_table(report))
    for each in report.rounds:
        answer = f"{each.title}: {each.shared.answer_text!r}"
        console.print(answer, highlight=False, markup=False, soft_wrap=True)
    console.print()
    for failure in report.failures:
        console.print(f"FAILED: {failure}", style="red", highlight=False, markup=False)
    if not report.failures:
        console.print("All checks held.", style="green", highlight=False)
    console.print(f"The run took {report.seconds:.0f} s.", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
