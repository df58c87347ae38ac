"""What every command shares: reading flags, reporting mistakes, the `crnn-jax` entry point.

    parser = cli.Parser('demo', __doc__)
    parser.add_argument('--beam_width', type=cli.number(1))  # --beam-width works too

Nothing heavy is imported before flags are read, so that `--help` answers at once.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from crnn_jax.core.errors import FULL, UserError

# Command -> (module of the package, what it does).
COMMANDS = {
    "train": ("main", "train a model from a config"),
    "main": ("main", "the same"),
    "demo": ("demo", "read images"),
    "evaluate": ("evaluate", "score a model on annotated images"),
    "check": ("check", "look through data before training"),
    "synthesize": ("synthesize", "render a labelled data set"),
    "shards": ("shards", "write a set into ArrayRecord shards"),
    "language_model": ("language_model", "estimate a language model from texts"),
    "export": ("export", "convert a model to other runtimes' formats"),
    "import_weights": ("import_weights", "turn another CRNN's weights into a model file"),
    "sweep": ("sweep", "search over a config"),
    "app": ("app", "a page to try a model in"),
}

BARS = 40  # characters of the longest bar
ROWS = 16  # of a histogram, at most
# Package that reading does not need -> the extra of pyproject.toml that installs it.
EXTRAS = {
    "cv2": "train",
    "ml_collections": "train",
    "optax": "train",
    "tensorboardX": "train",
    "tensorflow": "export",
    "keras": "export",
    "onnx": "onnx",
    "flatbuffers": "stablehlo",
    "h5py": "import",
    "optuna": "sweep",
    "matplotlib": "sweep",
}

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for a program stopped by Ctrl-C
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: `demo ... | head` ended before us


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose long flags take '-' and '_' alike, one line per error."""

    def __init__(self, command: str, description: str | None = None) -> None:
        installed = os.path.basename(sys.argv[0]) == "crnn-jax"
        super().__init__(
            prog=f"crnn-jax {command}" if installed else f"python -m crnn_jax.{command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # With abbreviations every new flag could break somebody's script.
            allow_abbrev=False,
        )

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        """As in argparse; a long flag is shown with '-'."""
        return super().add_argument(*(_dashed(name) for name in names), **kwargs)

    def add_model(self) -> None:
        """Adds `-m`, for `LoadedModel.open` and `Recognizer.load`."""
        about = "model file or workdir (default: en_36)"
        self.add_argument("-m", "--model", help=about)

    def add_annotation(self, about: str, **kwargs: Any) -> None:
        """Adds `-a`, and where its paths start and what its lines look like."""
        self.add_argument("-a", "--annotation", "--annotation_paths", help=about, **kwargs)
        self.add_argument("--images", default="", help="folder that paths are relative to")
        self.add_argument("--format", default="auto", help="as data.format in training")

    def add_decoder(self, default: str) -> None:
        """Adds the flags of the decoders."""
        about = f"greedy, beam or both (default: {default})"
        self.add_argument("--decoder", default=default, help=about)
        self.add_argument("--beam_width", type=int, help="of beam search (10)")
        self.add_argument("--top_paths", type=int, help="texts per image, with alternatives (1)")
        self.add_argument("--lexicon", help="file of words: beam search finds no others")
        self.add_argument("--lm", help="language model, for beam search: an ARPA file")
        self.add_argument("--lm_weight", type=float, help="weight of the language model")
        self.add_argument("--length_bonus", type=float, help="nats per character, with --lm")
        about = "the only characters to read, such as 0123456789.-"
        self.add_argument("--characters", help=about)

    def add_views(self) -> None:
        """Adds the flags that say whether unsure images are read in several views."""
        about = "read images of low confidence in several views (default: as the model file says)"
        self.add_argument("--views", action="store_true", default=None, help=about)
        self.add_argument("--no_views", dest="views", action="store_false", help="turn views off")

    def add_settled(self, *names: str, answer: str = "the model file holds it") -> None:
        """Accepts a flag of CRNN.tf2 that is not needed any more, and its value; says why."""

        class Answer(argparse.Action):
            def __call__(self, *args: Any) -> None:
                print(f"note: {args[-1]} is not needed: {answer}", file=sys.stderr)

        self.add_argument(*names, action=Answer, help=argparse.SUPPRESS)

    def add_settled_by_model(self) -> None:
        """Accepts CRNN.tf2's flags about characters and images."""
        self.add_settled("-t", "--table_path", "--table")
        self.add_settled("-w", "--img_width")
        self.add_settled("--img_channels")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse; `--beam_width=5` is read as `--beam-width=5` (a value is left alone)."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        words[:end] = [_dashed(word) for word in words[:end]]
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line on stderr and exit code 2."""
        print(f"{self.prog}: {_one_line(message)} (see --help)", file=sys.stderr)
        sys.exit(EXIT_MISTAKE)


def decoder_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given of `add_decoder`, as `open_decoder` takes it, without the name.

    Raises UserError where a number would change nothing.
    """
    names = "beam_width", "top_paths", "lexicon", "lm", "lm_weight", "length_bonus", "characters"
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    for name in given:
        if name in ("beam_width", "top_paths") and args.decoder == "greedy":
            raise UserError(f"--{name.replace('_', '-')} goes with --decoder beam")
        if name in ("lm_weight", "length_bonus") and args.lm is None:
            raise UserError(f"--{name.replace('_', '-')} goes with --lm")
    return given


def tell_left_out(args: argparse.Namespace, decoder: Any) -> None:
    """Says on stderr how many words of `--lexicon` the decoder that was opened cannot read."""
    if decoder.lexicon is not None and (n := decoder.lexicon.left_out):
        which = "the table" if args.characters is None else "--characters"
        of = f"{n} of {decoder.lexicon.given} words left out"
        print(f"{args.lexicon}: {of}: characters outside {which}", file=sys.stderr)


def number(least: int, most: int = sys.maxsize) -> Callable[[str], int]:
    """A flag's `type`: a whole number within bounds."""

    def whole_number(text: str) -> int:
        if not least <= int(text) <= most:
            bounds = f"at least {least}" if most == sys.maxsize else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{text}: must be {bounds}")
        return int(text)

    return whole_number


def set_up_jax() -> None:
    """For a command that computes, once its flags are read: the process's and JAX's settings."""
    from crnn_jax import cpu_settings

    cpu_settings.apply()  # before JAX is imported
    from crnn_jax.reading import compilation_cache

    compilation_cache.enable()


def run(
    main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None
) -> NoReturn:
    """Calls a command's `main(argv)` and ends the process with its exit code (None: 0).

    A `UserError`, a full disk or a missing extra becomes one line on stderr and exit code 2; Ctrl-C
    one line and 130; a closed pipe (`| head`) nothing. Any other exception is a bug and keeps its
    traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name or text that the terminal cannot show must not end the program.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    message = ""
    try:
        code = main(argv) or 0
        sys.stdout.flush()
    except UserError as error:
        code, message = EXIT_MISTAKE, f"error: {error}"
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        code, message = EXIT_MISTAKE, f"error: {error}: pip install '.[{extra}]'"
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted"
    except OSError as error:
        gone = isinstance(error, BrokenPipeError)
        if not gone and error.errno not in FULL:
            raise
        # Python flushes stdout once more while it ends; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE if gone else EXIT_MISTAKE
        if not gone:
            where = error.filename or "the output"
            message = f"error: {where}: cannot be written: {error.strerror}"
    if message:
        print(_one_line(message), file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def output(path: str | None) -> Iterator[TextIO]:
    """Opens what `-o` names for writing as UTF-8; stdout where it is None.

    A file's name may hold bytes that are not UTF-8: those are escaped.
    """
    if path is None:
        yield sys.stdout
        return
    try:
        with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            yield stream
    except OSError as error:
        if error.filename != path and error.errno not in FULL:
            raise
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def json_line(record: Any) -> str:
    """One JSON object on one line, without NaN (JSON has none: such a number is a bug)."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def histogram(title: str, counts: dict[str, int]) -> Iterator[str]:
    """Lines of bars for {a number: how often it occurs}; none for nothing."""
    if not counts:
        return
    import numpy as np

    values, times = np.array(list(counts), np.int64), np.array(list(counts.values()))
    yield f"  {title}: {values.min()} to {values.max()}"
    edges = np.unique(np.linspace(values.min(), values.max() + 1, ROWS + 1).astype(np.int64))
    sums, _ = np.histogram(values, edges, weights=times)
    for (low, high), count in zip(itertools.pairwise(edges.tolist()), sums.tolist(), strict=True):
        span = f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        bar = "#" * -(-BARS * count // sums.max())
        yield f"    {span:>9} {count:>9,} {bar}".rstrip()


def dispatch(argv: Sequence[str] | None = None) -> int | None:
    """`crnn-jax COMMAND ...`: the same as `python -m crnn_jax.COMMAND ...`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: crnn-jax COMMAND ...   (crnn-jax COMMAND --help lists its flags)\n")
        for name, (_, about) in COMMANDS.items():
            print(f"  {name:<16}{about}")
        return 0 if words else EXIT_MISTAKE
    if words[0] == "--version":
        from crnn_jax import __version__

        print(f"crnn-jax {__version__}")
        return 0
    command = words[0].replace("-", "_")
    if command not in COMMANDS:
        raise UserError(f"unknown command {words[0]!r}; there are {', '.join(COMMANDS)}")
    return importlib.import_module(f"crnn_jax.{COMMANDS[command][0]}").main(words[1:])


def main() -> NoReturn:
    """Entry point of the console script."""
    run(dispatch)


def _dashed(word: Any) -> Any:
    # A config's keys are spelled as they are.
    if not (isinstance(word, str) and word.startswith("--")) or word.startswith("--config."):
        return word
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("_", "-") + equals + value


def _one_line(message: str) -> str:
    return " ".join(message.split())


if __name__ == "__main__":
    main()
