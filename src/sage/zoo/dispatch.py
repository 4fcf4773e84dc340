"""Events on their way from one thread, which must not wait, to subscribers, who may.

Owns: the order of what was told, and the thread that tells it. Must not know: what the events say.
"""

from __future__ import annotations

import threading
from collections import deque

from sage.events import Event, EventBus

__all__ = ["Dispatcher"]


class Dispatcher:
    """Hands events to the bus in order, on a thread of its own that ends when there are none."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._thread: threading.Thread | None = None

    def emit(self, event: Event) -> None:
        """Have the event told soon; returns at once."""
        with self._lock:
            self._events.append(event)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sage-events", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread can be started now: it waits for the next event
                    return
                self._thread = thread

    def flush(self, timeout: float) -> None:
        """Wait until everything was told, so long as it takes no longer; a subscriber may call this too."""
        thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._events:
                    self._thread = None
                    return
                event = self._events.popleft()
            self._bus.emit(event)
