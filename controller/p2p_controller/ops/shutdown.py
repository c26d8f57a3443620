"""End the controller, orderly."""

from p2p.wire.messages import Done
from p2p_controller.state import ControllerState


def shutdown(state: ControllerState) -> Done:
    """Marks the end; whoever still waits for an answer gets it now."""
    state.is_shutting_down = True
    return Done()
