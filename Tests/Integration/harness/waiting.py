"""Waiting for something to become true."""

import time


def wait_until(condition, timeout=10.0, what=None, every=0.02):
    """Calls `condition` until it returns something true, and returns that.

    An exception counts as "not yet". After `timeout` seconds: AssertionError saying what was waited for and what the
    condition said last.
    """
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except AssertionError as error:
            last = error
        except Exception as error:  # the peer may still be starting, or be down
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition!r}; last: {last!r}")
        time.sleep(every)
