"""Pictures of this tree beside those of another commit, byte for byte: `make golden BEFORE=COMMIT`.

Each recipe, and each tile of the gallery, at 64 px in float32. Both trees render on this machine:
another one has other last bits. Ends with status 0 where all pictures are the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.arrange.paths import ROOT

SIZE = 64  # px, at which a picture still has two levels

# Run within the tree that it is about, whose modules it finds in the working directory.
DIGESTS = """
import hashlib, json, pathlib, sys
import bench.own
from samples import gallery

here = pathlib.Path.cwd()
loaded = [sys.modules[each.__module__] for each in (gallery.JobSpec, bench.own.Vgg)]
assert all(pathlib.Path(each.__file__).is_relative_to(here) for each in loaded), loaded
pictures = gallery.Pictures()
renderer = (getattr(bench.own, "Renderer", None) or bench.own.Studio)(files=pictures.files)
asked = {f"recipe {name}": {"recipe": name} for name in gallery.NAMES}
for sheet, tiles in gallery.sheets(pictures).items():
    asked |= {f"{sheet}: {caption}": fields for caption, fields in tiles.items()}
common = {"content": pictures.skyline, "styles": [pictures.strokes]}
for name, fields in asked.items():
    fields = {**common, **fields, "size": SIZE, "precision": "float32"}
    spec = gallery.JobSpec.model_validate(fields)
    print(json.dumps([name, hashlib.sha256(renderer.render(spec)).hexdigest()]), flush=True)
"""


def digests(tree: Path) -> dict[str, str]:
    """By the name of each picture, the SHA-256 of its file as the code of a tree makes it."""
    command = [sys.executable, "-c", f"SIZE = {SIZE}\n{DIGESTS}"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    told = subprocess.run(
        command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(line) for line in told.stdout.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(prog="golden", description=__doc__.partition("\n")[0])
    parser.add_argument("before", metavar="COMMIT", help="whose pictures are to stay")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), asked.before], check=True)
        try:
            before = digests(tree)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    after = digests(ROOT)
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    for what, names in (("changed", changed), ("no longer here", gone), ("new", new)):
        for name in sorted(names):
            print(f"{what}: {name}")
    print(f"{len(before) - len(changed) - len(gone)} of {len(before)} pictures are the same")
    sys.exit(bool(changed or gone))


if __name__ == "__main__":
    main()
