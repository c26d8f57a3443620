"""Options that several commands share, and those of operations. Imports nothing heavy."""

import argparse
from typing import TYPE_CHECKING

from p2p_controller.cli import help as texts
from p2p_controller.cli.prompt_keys import add_prompt_options

if TYPE_CHECKING:
    from p2p_controller.cli.parser import Commands


def seconds(text: str) -> float:
    """Returns a time from the command line."""
    return _seconds_to(text, 3600.0)


def pin_seconds(text: str) -> float:
    """Returns the time of a pin from the command line."""
    return _seconds_to(text, 366 * 86_400.0)


def name(text: str) -> str:
    """Returns a name that is none if it is left out; an empty one is an empty shell variable."""
    if not text:
        raise argparse.ArgumentTypeError("'' names nobody; leave the option out for all")
    return text


def _add_prompt(command: argparse.ArgumentParser) -> None:
    add_prompt_options(command)
    command.add_argument("--tenant", default="", help="whose chunks are meant besides nobody's")


def add_wait(command: argparse.ArgumentParser, default_s: float) -> None:
    """Adds how long to wait for the instances."""
    command.add_argument(
        "--wait",
        type=seconds,
        default=default_s,
        metavar="SECONDS",
        help=f"how long to wait for the instances (default: {default_s:g})",
    )


def add_operations(commands: "Commands") -> None:
    """Adds the commands that make instances do something with their chunks."""
    pin = _add_with_prompt(commands, "pin", "Keep chunks from being evicted.", texts.PIN)
    _add_instance(pin)
    pin.add_argument(
        "--for",
        dest="pin_s",
        type=pin_seconds,
        default=0.0,
        metavar="SECONDS",
        help="for so long (default: until they are unpinned)",
    )
    unpin = _add_with_prompt(commands, "unpin", "Let chunks be evicted again.", texts.PIN)
    _add_instance(unpin)
    evict = _add_with_prompt(commands, "evict", "Drop chunks that are not pinned.", texts.EVICT)
    _add_instance(evict)
    for command in (pin, unpin, evict):
        add_wait(command, 5.0)
    text = "Have an instance fetch chunks, so that it holds them too."
    replicate = _add_with_prompt(commands, "replicate", text, texts.REPLICATE)
    text = "Have an instance fetch chunks, which then go at the others."
    move = _add_with_prompt(commands, "move", text, texts.REPLICATE)
    for command in (replicate, move):
        command.add_argument(
            "--to", dest="target", required=True, metavar="INSTANCE", help="who fetches"
        )
        command.add_argument(
            "--from", dest="source", default="", metavar="INSTANCE", help="from whom; else anybody"
        )
        add_wait(command, 30.0)
    _add_clear(commands)
    drain = commands.add_asking("drain", "Have an instance give all to its peers.", texts.DRAIN)
    drain.add_argument("instance", metavar="INSTANCE", help="which is to be taken away")
    add_wait(drain, 30.0)


def _add_with_prompt(
    commands: "Commands", name: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    command = commands.add_asking(name, description, epilog)
    command.add_argument("--namespace", required=True, metavar="ID", help="what they belong to")
    _add_prompt(command)
    return command


def _add_instance(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--instance", default="", metavar="INSTANCE", help="only there; else at every holder"
    )


def _add_clear(commands: "Commands") -> None:
    command = commands.add_asking("clear", "Make instances drop their chunks.", texts.CLEAR)
    command.add_argument("--namespace", type=name, metavar="ID", help="only this one's")
    command.add_argument("--instance", type=name, metavar="INSTANCE", help="only this one's")
    _add_prompt(command)
    add_wait(command, 5.0)


def _seconds_to(text: str, longest_s: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= longest_s:
        reason = f"{text!r} is not between 0 and {longest_s:.0f} seconds"
        raise argparse.ArgumentTypeError(reason)
    return number
