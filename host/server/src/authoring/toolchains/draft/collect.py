# collect.py FOLDER SEAM: the modules of a folder that SEAM leads to, as JSON: their texts, and what they import from elsewhere.
# Run by the author's python3 for a draft; only what runs at import time counts, as functions run in a search.
import ast
import importlib.util
import json
import os
import sys

folder, seam = sys.argv[1:3]
files, outside, waiting, unfit = {}, set(), [seam], None


def file_of(module):
    """The file of a module or package in the folder, as a relative path."""
    path = module.replace(".", "/")
    found = (name for name in (f"{path}/__init__.py", f"{path}.py") if os.path.isfile(os.path.join(folder, name)))
    return next(found, None)


def statements(body):
    """Import statements that run when the module is run."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(ast.iter_child_nodes(node))


def imported(text, module, is_package):
    """Names of modules that a module may import; `from a import b` may mean a module `a.b`."""
    tree = ast.parse(text)
    for node in statements(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        parts = module.split(".") if is_package else module.split(".")[:-1]
        base = parts[: len(parts) - node.level + 1] if node.level else []
        name = ".".join([*base, *([node.module] if node.module else [])])
        if name:
            yield name
        yield from (f"{name}.{alias.name}" if name else alias.name for alias in node.names if alias.name != "*")


def is_loaded_before(name):
    """Whether a shell needs not be told: the contract's modules are in each, and a name in a module is none."""
    package = name.rpartition(".")[0]
    if name.split(".")[0] in ("wit_world", "componentize_py_types", "componentize_py_runtime", "__future__"):
        return True
    if not package or name.split(".")[0] not in sys.stdlib_module_names:
        return False
    try:
        return importlib.util.find_spec(name) is None
    except ImportError:
        return True


while waiting:
    module = waiting.pop()
    path = file_of(module)
    if path is None:
        if not file_of(module.split(".")[0]) and not is_loaded_before(module):
            outside.add(module)
        continue
    if path in files:
        continue
    try:
        with open(os.path.join(folder, path), encoding="utf-8") as file:
            files[path] = text = file.read()
        found = list(imported(text, module, path.endswith("__init__.py")))
    except (SyntaxError, ValueError) as error:
        # Perhaps of a newer Python: a build says, by the interpreter that counts.
        unfit = f"{path}:{getattr(error, 'lineno', 1)}: {getattr(error, 'msg', error)}"
        break
    parents = module.split(".")[:-1]
    waiting += [".".join(parents[: count + 1]) for count in range(len(parents))]
    waiting += found

print(json.dumps({"files": sorted(files.items()), "outside": sorted(outside), "unfit": unfit}))
