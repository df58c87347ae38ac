"""Small trainings that cannot go well, by the commands that users type."""

from collections.abc import Iterator
from pathlib import Path

from experiments.faults.cases.case import Case, image, write

ROOT = Path(__file__).resolve().parents[3]


def cases(folder: Path) -> Iterator[Case]:
    def train(name: str, says: str, *more: str, code: int = 2) -> Case:
        words = ("main", f"--config={ROOT}/configs/tiny.py", f"--workdir={name.replace(' ', '-')}")
        table = f"--config.charset.table={ROOT}/example/table.txt"
        return Case(name, (*words, table, *more), says, code)

    for number in range(40):
        image(folder / f"{number}.png")
    text = "".join(f"{number}.png\t{number}\n" for number in range(40))
    labels = write(folder / "labels.tsv", text)
    data = f"--config.data.train={labels}"

    yield train("no such set", "nowhere.tsv", "--config.data.train=nowhere.tsv")
    yield train("no such key", "optimiser", "--config.optimiser.name=adam")
    yield train("text for a number", "steps", "--config.steps=many")
    yield train("negative rate", "learning_rate=-1", data, "--config.optimizer.learning_rate=-1")
    wild = ("--config.steps=40", "--config.optimizer.learning_rate=1e30")
    yield train("a loss that is not finite", "20 steps in a row", data, *wild, code=1)
    write(folder / "file", "")
    yield train("workdir that is a file", "file", data, "--workdir=file")
    for number in range(40):
        write(folder / f"none{number}.png", b"")
    unread = "".join(f"none{number}.png\t{number}\n" for number in range(40))
    write(folder / "none.tsv", unread)
    yield train("no image can be read", "none", "--config.data.train=none.tsv")
    yield train("batches of nothing", "batch_size=0", data, "--config.batch_size=0")
    yield train("init_from something else", "labels.tsv: no safetensors file",
                data, "--config.init_from=labels.tsv")  # fmt: skip

    # One run, whose files are damaged one after the other.
    def again(name: str, says: str, steps: int, code: int = 0) -> Case:
        words = ("main", f"--config={ROOT}/configs/tiny.py", f"--config.steps={steps}", table, data)
        return Case(
            name, (*words, "--workdir=run", "--config.checkpoint.every_steps=5"), says, code
        )

    table = f"--config.charset.table={ROOT}/example/table.txt"
    run = folder / "run"
    yield again("(sound, for comparison)", "finished: 10 steps", 10)
    if not run.exists():
        return  # only other cases were asked for
    rows = (run / "metrics.jsonl").read_bytes()
    write(run / "metrics.jsonl", rows[:50] + bytes(512) + b"\xff\n7\n" + rows[50:])
    yield again("metrics.jsonl that lost a block", "finished: 15 steps", 15)
    newest = max((run / "checkpoints" / "latest").iterdir(), key=lambda path: int(path.name))
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    yield again("one bit of the newest checkpoint flipped", "15 is damaged", 20)
    write(run / "config.json", (run / "config.json").read_bytes()[:37])
    yield again("config.json cut short", "config.json", 25, code=2)
