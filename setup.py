"""Builds the hot modules with mypyc where a C compiler is at hand; the same source runs interpreted elsewhere.

MESHWAY_COMPILE=0 never compiles, 1 insists on it, and unset or "auto" compiles if it can: without a compiler, or when
the compilation fails, the interpreted package is installed and a sentence says so. An editable install compiles only
on MESHWAY_COMPILE=1, because compiled modules would hide later edits of their sources.
"""

import glob
import os
import shutil
import sys
import sysconfig

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

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

# The commands that produce installable files; for all others (metadata, sdist) translating would be time lost.
BUILDING = {"bdist_wheel", "build", "build_ext", "install"}


def say(sentence: str) -> None:
    """One line for whoever runs the installation (pip shows it with -v)."""
    print(f"meshway: {sentence}", file=sys.stderr, flush=True)


def wish() -> str:
    """What MESHWAY_COMPILE asks for: "0", "1" or "auto"."""
    value = os.environ.get("MESHWAY_COMPILE") or "auto"
    if value not in ("0", "1", "auto"):
        sys.exit(f"meshway: MESHWAY_COMPILE={value} means nothing; use 0, 1 or auto")
    return value


def missing_compiler() -> str:
    """The name of the C compiler that Python would call, when it is not there; else empty."""
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "").split()
    return command[0] if command and shutil.which(command[0]) is None else ""


def translate() -> list[Extension]:
    """All hot modules as one mypyc compilation unit, so that calls between them are direct."""
    from mypyc.build import mypycify

    sources = sorted(path for pattern in COMPILED for path in glob.glob(pattern) if not path.endswith("__init__.py"))
    return mypycify(["--config-file=", "--strict", *sources], opt_level=os.environ.get("MYPYC_OPT_LEVEL", "3"))


def extensions() -> list[Extension]:
    """What to compile: nothing for an interpreted install."""
    wanted = wish()
    building = not BUILDING.isdisjoint(sys.argv) or ("editable_wheel" in sys.argv and wanted == "1")
    if wanted == "0" or not building:
        return []
    compiler = missing_compiler()
    if compiler and wanted == "1":
        sys.exit(f"meshway: MESHWAY_COMPILE=1, but the C compiler {compiler} is not there; install it or set CC")
    if compiler:
        say(f"the C compiler {compiler} is not there, so this install is interpreted")
        return []
    try:
        return translate()
    except (Exception, SystemExit) as error:  # mypycify leaves by sys.exit when it cannot translate
        if wanted == "1":
            raise
        say(f"mypyc could not translate the sources ({error}), so this install is interpreted")
        return []


class BuildHotModules(build_ext):
    """Compiles all or nothing: half of a compilation unit would not even import."""

    def run(self) -> None:
        """Build the extensions; in auto mode a failure leaves the interpreted package."""
        try:
            super().run()
        except Exception:  # each compiler class has errors of its own
            if wish() == "1":
                raise
            say("the C compiler failed, as shown above, so this install is interpreted (slower, otherwise the same)")
            for extension in self.extensions:
                path = self.get_ext_fullpath(extension.name)
                if os.path.exists(path):
                    os.remove(path)
            self.extensions = self.distribution.ext_modules = []


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildHotModules})
