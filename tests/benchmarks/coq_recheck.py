"""Does coqc accept the files that a search has written? Each is compiled alone, as a library of the same name.

python tests/benchmarks/coq_recheck.py runs/coq/nearest/proofs

Prints how many files are accepted, Coq's last words on each other one, and a JSON line.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import machine


def main() -> None:
    """Compile the files of a folder of proofs in the standard library, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proofs", type=Path)
    parser.add_argument("--timeout_s", type=float, default=600.0)
    args = parser.parse_args()
    files = sorted(path.relative_to(args.proofs) for path in args.proofs.rglob("*.v"))
    begin = time.perf_counter()
    refused = {str(file): why for file in files if (why := complaint(args.proofs, file, args.timeout_s))}
    seconds = time.perf_counter() - begin
    print(f"coqc accepts {len(files) - len(refused)} of {len(files)} files, {seconds:.0f} s")
    for file, why in refused.items():
        print(f"{file}: {why}")
    print(json.dumps({"num_files": len(files), "refused": refused, "seconds": round(seconds, 1), **machine.facts()}))


def complaint(proofs: Path, file: Path, timeout_s: float) -> str:
    """Compile a file; return what coqc says against it, empty if it accepts it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file)
        copy.parent.mkdir(parents=True)
        shutil.copyfile(proofs / file, copy)
        options = ["-q", "-w", "none", "-R", str(Path(folder, file.parts[0])), "Coq"]
        if file.parts[:2] == ("theories", "Init"):  # which the rest is built on
            options.append("-noinit")
        try:
            done = subprocess.run(["coqc", *options, str(copy)], capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return f"not done in {timeout_s:g} s"
        return " ".join(done.stderr.split())[-300:] if done.returncode else ""


if __name__ == "__main__":
    main()
