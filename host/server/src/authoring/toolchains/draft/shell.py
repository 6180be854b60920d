"""A component without a strategy: it runs the modules that its host hands it when it starts.

What modules import from outside their folder is loaded while the shell is built, by `orion_outside.py`, as a build of the
plugin itself would; nothing else can be imported later, as there is no file system to find it on.
"""

import importlib
import linecache
import pkgutil
import sys
import traceback
from importlib.machinery import ModuleSpec

import wit_world
import wit_world.imports
from wit_world.imports import log, sources

from orion_outside import OUTSIDE

# Where componentize-py puts an author's folder.
ROOT = "/0/"

CONTRACT = [f"wit_world.imports.{module.name}" for module in pkgutil.iter_modules(wit_world.imports.__path__)]

for name in [*CONTRACT, *OUTSIDE]:
    try:
        importlib.import_module(name)
    except Exception:
        # `from a import b` need not mean a module; the module that imports it says what is missing.
        pass

# Even looking for a file is a trap.
linecache.checkcache = lambda filename=None: None
linecache.updatecache = lambda filename, module_globals=None: []
# Where in a line an error stood is found by parsing the line, and a line that does not parse alone is looked up as a file.
traceback._extract_caret_anchors_from_line_segment = lambda segment: None


class Finder:
    """Finds the modules that were handed over, until all of them have run."""

    files = {}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        place = name.replace(".", "/")
        for file, is_package in ((f"{place}/__init__.py", True), (f"{place}.py", False)):
            if file in cls.files:
                spec = ModuleSpec(name, cls, origin=ROOT + file, is_package=is_package)
                spec.has_location = True
                if is_package:
                    spec.submodule_search_locations = [ROOT + place]
                return spec
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    @staticmethod
    def create_module(spec):
        return None

    @classmethod
    def exec_module(cls, module):
        file = module.__spec__.origin
        exec(compile(cls.files[file.removeprefix(ROOT)], file, "exec"), module.__dict__)


def load():
    """The strategy's own exports."""
    Finder.files = dict(sources.read())
    for file, text in Finder.files.items():
        linecache.cache[ROOT + file] = (len(text), None, text.splitlines(True), ROOT + file)
    sys.meta_path.insert(0, Finder)
    try:
        return importlib.import_module("orion").WitWorld()
    except Exception as exception:
        text = "".join(traceback.format_exception(exception)).strip()
        log.write(log.Level.ERROR, text)
        frames = [frame for frame in traceback.extract_tb(exception.__traceback__) if frame.filename.startswith(ROOT)]
        place = f" ({frames[-1].filename.removeprefix(ROOT)}:{frames[-1].lineno})" if frames else ""
        log.write(log.Level.ERROR, text.splitlines()[-1] + place)
        raise
    finally:
        Finder.files = {}


class WitWorld(wit_world.WitWorld):
    """The world `strategy`."""

    strategy = None

    def loaded(self):
        if WitWorld.strategy is None:
            WitWorld.strategy = load()
        return WitWorld.strategy

    def describe(self):
        return self.loaded().describe()

    def search(self, request):
        return self.loaded().search(request)
