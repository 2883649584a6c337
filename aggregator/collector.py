"""Tells Python's garbage collector what lasts, so that it does not stop all work to look at it.

A mesh of 10,000 services is a million objects that are freed by counting alone; walking them takes
the collector most of a second, in which nothing is sent.
"""

import gc
from typing import Final

GROWING: Final = (50_000, 50, 50)


def expect_growth() -> None:
    """Most of what is made from now on will last: do not look for garbage all the time."""
    gc.set_threshold(*GROWING)


def settle() -> None:
    """What is there now is left alone for ever; what comes later is looked at as usual.

    Garbage that is there now is never found, and neither are streams that are open now when they
    end: called once, when hardly any are.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL)


_USUAL: Final = gc.get_threshold()
