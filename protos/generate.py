"""Generates the Python code beside each .proto, or with --check says what is out of date (exit code 1)."""

import filecmp
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py")


def generate(target: Path) -> None:
    """Run protoc over every .proto of this folder, with the output under ``target``."""
    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    includes = [f"-I{ROOT}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    if protoc.main(["protoc", *includes, *outputs, *protos]) != 0:
        sys.exit("protoc failed; its messages are above")


def listing(folder: Path) -> set[Path]:
    """The generated files below a folder, relative to it."""
    return {path.relative_to(folder) for pattern in GENERATED for path in folder.rglob(pattern)}


def stale() -> list[str]:
    """One sentence for each generated file that is missing, left over or different from what protoc makes now."""
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        generate(fresh)
        wanted, present = listing(fresh), listing(ROOT)
        return [
            *(f"protos/{path} is missing" for path in sorted(wanted - present)),
            *(f"protos/{path} has no .proto any more" for path in sorted(present - wanted)),
            *(
                f"protos/{path} is not what its .proto generates"
                for path in sorted(wanted & present)
                if not filecmp.cmp(fresh / path, ROOT / path, shallow=False)
            ),
        ]


def main() -> None:
    """Generate in place, or check."""
    if sys.argv[1:] == ["--check"]:
        problems = stale()
        if problems:
            sys.exit("\n".join([*problems, "run: make protos"]))
    elif sys.argv[1:]:
        sys.exit("use: python protos/generate.py [--check]")
    else:
        generate(ROOT)


if __name__ == "__main__":
    main()
