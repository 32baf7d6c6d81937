"""Builds the hot modules with mypyc where a C compiler is at hand; the same source runs interpreted elsewhere.

MESHWAY_COMPILE=0 never compiles, 1 insists on it, unset or "auto" compiles if it can.
"""

import glob
import os
import shutil

from setuptools import setup

COMPILED = [
    "gateway/errors.py",
    "gateway/timers.py",
    "gateway/model.py",
    "gateway/http2/*.py",
    "gateway/routing/*.py",
    "gateway/balancing/*.py",
    "gateway/resilience/*.py",
    "gateway/proxy/*.py",
]


def extensions() -> list:
    """One mypyc compilation unit of all hot modules, or nothing for an interpreted install."""
    wish = os.environ.get("MESHWAY_COMPILE", "auto")
    compiler = os.environ.get("CC", "cc").split()[0]
    if wish == "0" or (wish == "auto" and shutil.which(compiler) is None):
        return []
    from mypyc.build import mypycify

    sources = sorted(path for pattern in COMPILED for path in glob.glob(pattern) if not path.endswith("__init__.py"))
    modules = mypycify(["--config-file=", "--strict", *sources], opt_level=os.environ.get("MYPYC_OPT_LEVEL", "3"))
    for module in modules:
        module.optional = wish == "auto"
    return modules


setup(ext_modules=extensions())
