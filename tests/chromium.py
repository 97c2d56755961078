"""A Chromium for the tests of the page: that of the PATH, or else Debian's, unpacked beside the caches.

    python -m tests.chromium

only looks whether there is one to be had, and says in a line where there is none. Status 1 then.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from stenopool.config import Config
from stenopool.errors import ServerError
from tests.debian import needed, unpacked

PACKAGES = ("chromium", "fonts-inter")

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

#: It asks nobody outside, and needs neither a screen nor a sandbox that only root's kernel settings allow.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
)


def folder() -> Path:
    """Where it is kept once it is fetched."""
    return Config.from_env().cache / "chromium"


def installed() -> Path | None:
    """That of the PATH."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return None if found is None else Path(found)


def chromium() -> tuple[Path, dict[str, str]]:
    """Its program, and what it needs in its environment. It is fetched where it is not there yet.

    Raises:
        ServerError: there is none to be had.
    """
    if (found := installed()) is not None:
        return found, {}
    root = unpacked(folder(), PACKAGES)
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    searched = [libraries, *(path for path in libraries.iterdir() if path.is_dir()), root / "lib" / libraries.name]
    return root / "usr" / "lib" / "chromium" / "chromium", {
        "LD_LIBRARY_PATH": ":".join(map(str, searched)),
        "FONTCONFIG_FILE": str(_fonts(root)),
        "XDG_DATA_DIRS": f"{root}/usr/share:{os.environ.get('XDG_DATA_DIRS', '/usr/local/share:/usr/share')}",
    }


def _fonts(root: Path) -> Path:
    """Where fonts are, in the words of fontconfig: one that came along, so that pictures are the same everywhere."""
    file = root / "fonts.conf"
    folders = "".join(f"<dir>{path}</dir>" for path in (root / "usr" / "share" / "fonts", "/usr/share/fonts"))
    families = ("system-ui", "sans-serif")
    aliases = "".join(
        f"<alias><family>{one}</family><prefer><family>Inter</family></prefer></alias>" for one in families
    )
    file.write_text(f"<fontconfig>{folders}{aliases}<cachedir>{root}/fonts</cachedir></fontconfig>\n")
    return file


def main() -> int:
    """Whether there is one; a line says why not."""
    try:
        if installed() is None and not (folder() / "root").exists():
            needed(folder(), PACKAGES)
    except ServerError as error:
        sys.stderr.write(f"the page is not tested in a browser here: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
