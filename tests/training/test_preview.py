"""A preview tells what a run then does, and leaves no trace."""

from crnn_jax.training.loop import train_and_evaluate
from crnn_jax.training.loop import preview


def test_a_preview_says_what_the_run_says(config, tmp_path, capsys):
    with config.unlocked():
        config.charset.characters = ""
        config.evaluation.patience = 3
    workdir = tmp_path / "run"
    told = list(preview(config, str(workdir)))
    assert not workdir.exists()
    assert told[-1] == f"workdir {workdir}: a new run"
    assert told[-2] == (
        "an evaluation every 6 steps, 2 in all, the run ends after 3 without a better one"
    )
    train_and_evaluate(config, str(workdir))
    said = capsys.readouterr().err.splitlines()
    assert said[: len(told) - 3] == told[:-3]
    assert list(preview(config, str(workdir)))[-1] == (
        f"workdir {workdir}: finished at step 12; more epochs would extend it"
    )


def test_a_table_made_from_labels_stays(config, digits, tmp_path):
    """New labels later must not move the classes of a network that is there."""
    labels = tmp_path / "labels.tsv"
    labels.write_text("".join(f"{digits.parent}/{i}.png\t{i}\n" for i in range(8)))
    with config.unlocked():
        config.steps = 2
        config.charset.characters = ""
        config.data.train = config.data.validation = str(labels)
    workdir = tmp_path / "run"
    train_and_evaluate(config, str(workdir))
    first = (workdir / "table.txt").read_text()
    assert set("01234567") <= set(first)
    assert "8" not in first
    labels.write_text(labels.read_text() + f"{digits.parent}/8.png\t8\n")
    with config.unlocked():
        config.steps = 4
    train_and_evaluate(config, str(workdir), with_new_config=True)
    assert (workdir / "table.txt").read_text() == first
