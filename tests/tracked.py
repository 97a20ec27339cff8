"""Files of the project that git tracks: tests that walk the tree leave alone what a user keeps in the checkout."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked(pattern: str, root: Path = ROOT) -> list[Path]:
    """Paths, sorted, that match a pattern such as `chemnet/**/*.py`; without git, of all files that are there."""
    try:
        command = ["git", "-C", str(root), "ls-files", "-z", "--", f":(glob){pattern}"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    paths = [root / name for name in listed.split("\0") if name] or list(root.glob(pattern))
    return sorted(path for path in paths if path.is_file())
