"""The seam between strategy.py and the contract (wit/orion.wit).

It exports the two functions of the contract, and makes an exception readable: its traceback goes to the host's log, and
its last line becomes the reason that the caller sees. There is rarely a reason to edit this file.
"""

import linecache
import os
import sys
import traceback

import wit_world
from componentize_py_types import Err
from wit_world.imports import log
from wit_world.imports.types import Error_Other

import strategy

# Tracebacks quote source lines. Files are there while the component is built and never again, where even looking for one
# is a trap: so the author's own lines are read now, and nothing is looked up later.
HERE = os.path.dirname(strategy.__file__)
for module in list(sys.modules.values()):
    if os.path.dirname(getattr(module, "__file__", None) or "") == HERE:
        linecache.getlines(module.__file__)
linecache.checkcache = lambda filename=None: None
linecache.updatecache = lambda filename, module_globals=None: []
# Where in a line an error stood is found by parsing the line, and a line that does not parse alone is looked up as a file.
traceback._extract_caret_anchors_from_line_segment = lambda segment: None


def report(exception):
    """Logs an exception with its traceback; returns its last line and where it was raised."""
    text = "".join(traceback.format_exception(exception)).strip()
    log.write(log.Level.ERROR, text)
    frames = traceback.extract_tb(exception.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return text.splitlines()[-1] + place


class WitWorld(wit_world.WitWorld):
    """The world `strategy`."""

    def describe(self):
        try:
            return strategy.describe()
        except Exception as exception:
            report(exception)
            raise

    def search(self, request):
        try:
            return strategy.search(request)
        except Err:
            # An error of the contract, raised by a call or by the strategy: the caller understands it as it is.
            raise
        except Exception as exception:
            raise Err(Error_Other(("exception", report(exception)))) from None
