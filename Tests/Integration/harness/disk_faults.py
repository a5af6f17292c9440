"""Disks that are slow or fail, for any server: a library put before the C library's (disk_faults.c)."""

import functools
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


@functools.cache
def _library():
    folder = tempfile.TemporaryDirectory(prefix="disk-faults-")
    library = Path(folder.name) / "disk_faults.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return folder, library  # the folder goes with the process


class DiskFaults:
    """What fails for the servers started with `env`, from now on or no longer."""

    def __init__(self, directory):
        self.folder = Path(directory) / "disk-faults"
        self.folder.mkdir()
        self.env = {"LD_PRELOAD": str(_library()[1]), "DISK_FAULTS": str(self.folder)}

    def _set(self, name, text):
        if text is None:
            (self.folder / name).unlink(missing_ok=True)
            return
        new = self.folder / (name + ".new")
        new.write_text(text)
        new.rename(self.folder / name)

    def slow_fsync(self, seconds):
        """Every fsync takes so much longer; 0: as usual again."""
        self._set("fsync-ms", str(int(seconds * 1000)) if seconds else None)

    def fail_write(self, code, part_of_path):
        """Writes to such files fail with this errno; None: no longer."""
        self._set("write-errno", code and f"{code} {part_of_path}")

    def fail_fsync(self, code, part_of_path):
        self._set("fsync-errno", code and f"{code} {part_of_path}")
