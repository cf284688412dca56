"""Run a command as its user does, and look at what it says."""

from gptlab import __main__ as cli


def run(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fails(capsys, *arguments) -> str:
    """Run, expect exit code 2 and one line of error, and return the line."""
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert error.startswith("gptlab: ")
    assert len(error.splitlines()) == 1
    return error


def tree(directory) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
