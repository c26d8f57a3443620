"""The controller's refusals as sentences, the same for the command line and HTTP. No I/O."""

from p2p.wire.messages import Refusal, RefusalCode


def sentence_of(refusal: Refusal) -> str:
    """Returns a refusal in words, with the field that does not fit and its value.

    What is malformed was never a value that the controller could compare: there ``ours`` says
    what is wrong with it.
    """
    start = f"refused, {refusal.code.value}"
    if refusal.code is RefusalCode.MALFORMED:
        parts = [start, refusal.field, refusal.ours]
    elif refusal.code is RefusalCode.LIMIT:
        parts = [start, f"{refusal.field} = {refusal.ours} are there already"]
    else:
        field = f"{refusal.field} = {refusal.theirs!r}" if refusal.field else ""
        ours = f"the controller has {refusal.ours!r}" if refusal.ours else ""
        parts = [start, "; ".join(part for part in (field, ours) if part)]
    return ": ".join(part for part in parts if part)
