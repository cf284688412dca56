"""Check a whole file of exercises: a line for each, or a report that a teacher's script can read."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptlab.checks.core import check


def run(exercises: Mapping[str, Any], arguments: Sequence[str] | None = None) -> int:
    """Check every answer, print what came of it, and return the exit code: 0 if all passed, 1 if not, 130 after Ctrl-C.

    Args:
        exercises: name of the check -> answer.
        arguments: names, to check only those, and `--json`; None takes the command line's.
    """
    parser = argparse.ArgumentParser(description="Check the exercises of this chapter.")
    parser.add_argument("names", nargs="*", help=f"check only these: {', '.join(exercises)}")
    parser.add_argument("--json", action="store_true", help="print a report for other programs")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(exercises))
    if unknown:
        parser.error(f"no exercise here is called {', '.join(unknown)}; there are {', '.join(exercises)}")
    for stream in (sys.stdout, sys.stderr):  # a hint may hold what the terminal's encoding does not have
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    results = []
    for name in options.names or exercises:
        try:
            results.append(check(name, exercises[name]))
        except KeyboardInterrupt:
            print(f"stopped while {name} was checked", file=sys.stderr)
            return 130
        if not options.json:
            print(results[-1], flush=True)
    passed = sum(map(bool, results))
    if options.json:
        chapter = Path(sys.argv[0]).resolve().parent.name
        report = {"chapter": chapter, "passed": passed, "total": len(results)}
        print(json.dumps(report | {"exercises": [asdict(result) for result in results]}, ensure_ascii=False, indent=2))
    else:
        print(f"\n{passed} of {len(results)} passed")
    return 0 if passed == len(results) else 1
