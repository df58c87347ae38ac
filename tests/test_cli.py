"""What every command shares: flags, mistakes, exit codes, output, the console script."""

import os
import pathlib
import re
import resource
import subprocess
import sys
import tomllib

import pytest

from crnn_jax import cli
from crnn_jax.core.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def run_python(*words, **kwargs):
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    return subprocess.run([sys.executable, *words], text=True, cwd=ROOT, check=False, **kwargs)


def ended(main, capsys, argv=()):
    """(exit code, stdout, stderr) of a command."""
    with pytest.raises(SystemExit) as stopped:
        cli.run(main, list(argv))
    return stopped.value.code, *capsys.readouterr()


def make_parser():
    parser = cli.Parser("read", "Reads.")
    parser.add_argument("path", nargs="*")
    parser.add_argument("--beam-width", type=int, default=1)
    parser.add_argument("--top_paths", type=int, default=1)
    parser.add_argument("--out-file")
    parser.add_settled("-t", "--table_path", answer="the model file knows")
    return parser


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--beam_width", "5", "--top_paths=7"], {"beam_width": 5, "top_paths": 7}),
        (["a-b.png", "--", "--c-d.png"], {"path": ["a-b.png", "--c-d.png"]}),
        (["--out-file=my-file.png"], {"out_file": "my-file.png"}),
        (["-t", "x", "a.png"], {"path": ["a.png"]}),
    ],
)
def test_dashes_and_underscores_are_the_same_in_flags_and_stay_in_values(words, values):
    assert vars(make_parser().parse_args(words)).items() >= values.items()


@pytest.mark.parametrize("words", [["--nonsense"], ["--beam_width", "x"], ["--beam", "3"]])
@pytest.mark.parametrize(
    ("called", "name"),
    [("/bin/crnn-jax", "crnn-jax read"), ("/a/crnn_jax/read.py", "python -m crnn_jax.read")],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(words, called, name, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [called])
    code, out, err = ended(make_parser().parse_args, capsys, words)
    assert (code, out) == (2, "")
    assert err.startswith(f"{name}: ")  # what was typed can be typed again
    assert err.count("\n") == 1


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "wanted"),
    [
        (raising(UserError("a.txt:3: wrong\n  more")), (2, "", "error: a.txt:3: wrong more\n")),
        (raising(KeyboardInterrupt), (130, "", "interrupted\n")),
        (lambda argv: None, (0, "", "")),
        (lambda argv: 1, (1, "", "")),
    ],
)
def test_how_commands_end(main, wanted, capsys):
    assert ended(main, capsys) == wanted


@pytest.mark.parametrize("bug", [KeyError("bug"), ModuleNotFoundError("", name="crnn_jax.bug")])
def test_a_bug_keeps_its_traceback(bug):
    with pytest.raises(type(bug)):
        cli.run(raising(bug))


def test_a_missing_extra_is_one_line(capsys):
    missing = ModuleNotFoundError("No module named 'optax.contrib'", name="optax.contrib")
    said = "error: No module named 'optax.contrib': pip install '.[train]'\n"
    assert ended(raising(missing), capsys) == (2, "", said)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    distributions = {"cv2": "opencv-python-headless", "keras": "tensorflow"}
    for package, extra in cli.EXTRAS.items():
        name = distributions.get(package, package)
        assert name.replace("_", "-") in {re.split("[<>=]", need)[0] for need in extras[extra]}


@pytest.mark.parametrize("lines", [2, 20_000])  # the pipe breaks at the end, or on the way
def test_a_reader_that_goes_away_is_no_error(lines):
    code = (
        "import sys; from crnn_jax import cli; sys.stdin.readline();"
        f'cli.run(lambda argv: [print("x" * 50) for _ in range({lines})] and 0)'
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    words = [sys.executable, "-c", code]
    process = subprocess.Popen(words, cwd=ROOT, env=env, text=True, **pipes)
    process.stdout.close()
    with process.stdin, process.stderr:
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.wait() == cli.EXIT_BROKEN_PIPE
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "code", ["print('a')", "__import__('pathlib').Path('/dev/full').write_text('a')"]
)
def test_a_full_disk_is_one_line(code):
    code = f"from crnn_jax import cli; cli.run(lambda argv: {code})"
    with open("/dev/full", "w") as full:
        done = run_python("-c", code, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "error: the output: cannot be written: No space left on device\n"


def test_a_name_that_the_terminal_cannot_show_does_not_end_the_program():
    code = 'from crnn_jax import cli; cli.run(lambda argv: print("a\\udcffü"))'
    done = run_python("-c", code, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, "a\\udcff\\xfc\n")


def test_output_goes_to_a_file_or_to_stdout(tmp_path, capsys):
    with cli.output(str(tmp_path / "a")) as stream:
        stream.write("ü\n")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xbc\n"
    with cli.output(None) as stream:
        stream.write("there")
    assert capsys.readouterr().out == "there"
    for path in (tmp_path / "no" / "folder", "/dev/full"):
        with pytest.raises(UserError, match="cannot be written"), cli.output(str(path)) as stream:
            stream.write("lost\n")
    with pytest.raises(PermissionError), cli.output(str(tmp_path / "b")):
        raise PermissionError  # of something else


def test_the_console_script_names_its_commands_and_hands_over(monkeypatch, capsys):
    code, out, err = ended(cli.dispatch, capsys, ["--help"])
    assert (code, err) == (0, "")
    assert "  demo  " in out
    assert ended(cli.dispatch, capsys, [])[0] == 2
    given = []
    for command, module in (("demo", "demo"), ("train", "main"), ("main", "main")):
        monkeypatch.setattr(f"crnn_jax.{module}.main", lambda argv: given.append(argv) or 3)
        assert ended(cli.dispatch, capsys, [command, "a", "--json"])[0] == 3
    assert given == [["a", "--json"]] * 3
    code, _, err = ended(cli.dispatch, capsys, ["dmeo"])
    assert code == 2
    assert "dmeo" in err


def test_the_package_imports_nothing_until_it_is_asked(capsys):
    code = (
        "import sys, crnn_jax; print(crnn_jax.__version__, 'jax' in sys.modules, 'numpy' in "
        "sys.modules); print(crnn_jax.Recognizer.__name__)"
    )
    first, second = run_python("-c", code).stdout.splitlines()
    assert first.split()[1:] == ["False", "False"]
    assert second == "Recognizer"
    assert run_python("-c", "from crnn_jax import nothing").returncode == 1
    assert ended(cli.dispatch, capsys, ["--version"])[1].split()[1] == first.split()[0]


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_help_answers_at_once(command):
    module = cli.COMMANDS[command][0]
    for _ in range(3):  # processor time: other programs may keep this machine busy
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python("-m", f"crnn_jax.{module}", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if seconds < 0.4:
            break
    assert done.returncode == 0
    assert done.stdout
    assert seconds < 0.4
