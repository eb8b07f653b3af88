"""Leave out of this virtual environment what torch uses on GPUs alone: 4 GB of 5.6.

On x86-64 the package index has one torch, built with CUDA. Its libraries do not load without
NVIDIA's, of which a CPU calls no function. So each that is large is replaced by one of the same
name, with the same symbols, whose every function returns 1: an error to all of CUDA. The small
ones stay, libcudart among them, which tells torch that there is no GPU. Needs binutils.
"""

import platform
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

LARGE_BYTES = 8 * 2**20
RETURN_1 = {"x86_64": "mov $1, %eax\nret\n", "aarch64": "mov w0, #1\nret\n"}


def main() -> None:
    site = Path(sysconfig.get_path("purelib"))
    shutil.rmtree(site / "triton", ignore_errors=True)  # torch.compile's, which nobody calls
    for path in sorted((site / "nvidia").rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        if not re.search(r"\.so(\.\d+)*$", path.name):
            path.unlink()  # headers, compilers, static libraries
        elif path.stat().st_size > LARGE_BYTES:
            hollow_out(path)


def hollow_out(library: Path) -> None:
    """Replace a library by one that has its symbols, and nothing behind them."""
    listed = output("nm", "-D", "--defined-only", library)
    defined = re.findall(r" [B-Zb-z] (\w+)(?:@+(\S+))?$", listed, re.MULTILINE)  # A: a version
    (soname,) = re.findall(r"SONAME +(\S+)", output("objdump", "-p", library))
    labels = [
        f".globl {name}\n.type {name}, %function\n{name}:\n" for name in sorted(dict(defined))
    ]
    versions = sorted({version for _, version in defined if version})
    with tempfile.TemporaryDirectory() as folder:
        source, script, compiled = (Path(folder, name) for name in ("s", "map", "o"))
        source.write_text("".join(labels) + RETURN_1[platform.machine()])
        script.write_text("".join(f"{version} {{ *; }};\n" for version in versions))
        output("as", source, "-o", compiled)
        library.unlink()
        options = ["--version-script", script] if versions else []
        output(
            "ld",
            "-shared",
            "-z",
            "noexecstack",
            "-soname",
            soname,
            *options,
            compiled,
            "-o",
            library,
        )


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
