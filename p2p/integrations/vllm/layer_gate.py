"""Layers that come one after the other from one thread, and are waited for by another."""

import threading


class LayerGate:
    """The layers of what is loaded within one step."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_open = 0
        self._is_over = False

    def open_next(self) -> None:
        """The next layer is there."""
        with self._changed:
            self._num_open += 1
            self._changed.notify_all()

    def open_all(self) -> None:
        """Nothing more will come: all layers are there, or have failed and are known to have."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait(self, layer: int) -> None:
        """Returns once a layer is there, or never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or layer < self._num_open)

    def wait_over(self) -> None:
        """Returns once nothing more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over)
