"""A session that does nothing, and needs no torch in the process that measures it."""

from contextlib import contextmanager


class IdleSession:
    @contextmanager
    def bound(self, *inputs):
        yield lambda: None


def idle(threads):
    return IdleSession()
