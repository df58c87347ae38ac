"""Downloads the fonts of `fontsource.txt` from npm: Google Fonts' families, Latin letters, WOFF2.

    python experiments/pretrained/fontsource.py fontsource

A family that is there already is not fetched again. Takes two minutes and 80 MB.
"""

import argparse
import io
import sys
import tarfile
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIST = Path(__file__).with_name("fontsource.txt")
REGISTRY = "https://registry.npmjs.org"
STYLES = ("latin-400-normal", "latin-700-normal", "latin-400-italic")


def fetch(folder: Path, family: str, version: str) -> None:
    target = folder / family
    if target.exists():
        return
    url = f"{REGISTRY}/@fontsource/{family}/-/{family}-{version}.tgz"
    with urllib.request.urlopen(url, timeout=300) as answer:
        package = io.BytesIO(answer.read())
    with tempfile.TemporaryDirectory(dir=folder) as work:
        new = Path(work) / "new"
        new.mkdir()
        with tarfile.open(fileobj=package) as archive:
            for member in archive:
                name = Path(member.name).name
                font = name.endswith(tuple(f"-{style}.woff2" for style in STYLES))
                if member.isfile() and (font or name == "LICENSE"):
                    (new / name).write_bytes(archive.extractfile(member).read())
        new.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    lines = LIST.read_text(encoding="utf-8").splitlines()
    families = [line.split("\t") for line in lines if not line.startswith("#")]
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(fetch, args.folder, name, version) for name, version, _ in families]
        for done, task in enumerate(tasks, 1):
            task.result()
            print(f"\r{done:,} of {len(tasks):,} families", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
