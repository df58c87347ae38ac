"""What the docs say of keys and files is so; of commands: tests/test_commands.py.

python tests/test_docs.py     # writes the table of docs/configs.md anew
"""

import re
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
START, END = "<!-- keys -->", "<!-- end of keys -->"


def key_table() -> str:
    """Every key of configs/mjsynth.py with its value there and its comment, as Markdown."""
    rows = ["| key | in `mjsynth.py` | what it is |", "|---|---|---|"]
    with tokenize.open(ROOT / "configs" / "mjsynth.py") as file:
        lines = file.read().splitlines()
    above = ""
    for line in lines:
        comment = re.fullmatch(r"\s+# (.*)", line)
        key = re.fullmatch(r"    ([\w.]+) = (.+?)(?:  # (.*))?", line)
        if comment:
            above = f"{above} {comment[1]}".strip()
        elif key and "ConfigDict" not in line:
            name = key[1].removeprefix("config.")
            told = " ".join(filter(None, (above, key[3]))).replace("|", "\\|")
            rows.append(f"| `{name}` | `{key[2]}` | {told} |")
            above = ""
        else:
            above = ""
    return "\n".join(rows)


def test_the_table_of_keys_is_that_of_the_reference_config():
    text = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    assert text.split(START)[1].split(END)[0].strip() == key_table()
    assert text.count("| `optimizer.") > 5


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


def test_exports_pasted_in_order_find_room():
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^python -m crnn_jax\.export -o (\S+)(.*)", text)
    new = [output for output, rest in found if "--overwrite" not in rest]
    assert len(set(new)) == len(new) > 8


def test_every_extra_is_listed():
    text = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    table = text.split("| extra | for |")[1]
    listed = re.findall(r"`(\w+)`", "\n".join(re.findall(r"(?m)^\| ([^|]*) \|", table)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(listed) == sorted(project["optional-dependencies"].keys() - {"dev"})


if __name__ == "__main__":
    page = ROOT / "docs" / "configs.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n{key_table()}\n{END}{after}", encoding="utf-8")
