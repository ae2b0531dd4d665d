"""``python -m monosemy SPEC``: executes a run spec of any kind, without a service.

Progress goes to the standard error, the result, as JSON, to the standard output: of a pipeline that
failed, what its steps had made by then.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from monosemy.errors import MonosemyError, SettingError, SpecError
from monosemy.exit_codes import DONE, FAILED, INTERRUPTED, USAGE, described
from monosemy.specs import KINDS, apply_overrides, load_spec, parse_spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Executes the command line; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        data = load_spec(options.spec) if options.spec is not None else {}
        if options.kind is not None:
            data["kind"] = options.kind
        spec = parse_spec(apply_overrides(data, options.set))
        from monosemy.notebook import run  # needs torch, which a faulty spec need not wait for

        result = run(spec, options.home, options.judge_url)
    except SpecError as error:
        lines = [f"{path}: {text}" if path else text for path, text in error.problems]
        return _fail("\n".join(lines), USAGE)
    except MonosemyError as error:
        if error.made is not None:
            _print(error.made)
        return _fail(str(error), USAGE if isinstance(error, SettingError) else FAILED)
    except ImportError as error:
        return _fail(f"{error}. Install monosemy with the extra 'train'.", FAILED)
    except OSError as error:
        return _fail(
            f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED
        )
    except KeyboardInterrupt:
        return _fail("Interrupted; the same command goes on from there.", INTERRUPTED)
    _print(result)
    return DONE


def _print(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, indent=1, ensure_ascii=False, default=str) + "\n")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(_fail(f"{message}. See '{self.prog} --help'.", USAGE))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m monosemy",
        description="Execute a run spec of any kind in this process, without a service.",
        epilog=described((DONE, FAILED, USAGE, INTERRUPTED)),
    )
    parser.add_argument("spec", nargs="?", help="YAML or JSON file; left out with --kind")
    parser.add_argument("--kind", help=f"kind of run: {', '.join(KINDS)}")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="laid over the spec"
    )
    parser.add_argument("--home", default="monosemy-work", help="folder of all artifacts")
    parser.add_argument("--judge-url", help="OpenAI-compatible endpoint; else MONOSEMY_JUDGE_URL")
    return parser


def _fail(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
