"""Other programs, none of which is waited for longer than it is given.

A program that hangs on a card may not even end when it is killed; then it is left behind.
"""

import os
import signal
import subprocess
from pathlib import Path

# How long a killed program may take to go.
FAREWELL = 5


class NoAnswer(RuntimeError):
    """A program that did not end in its time."""


def run(command: list, seconds: float, environment: dict | None = None) -> subprocess.CompletedProcess:
    """Runs a program to its end. One that takes longer is killed, with what it started."""
    command = [str(part) for part in command]
    pipe = subprocess.PIPE
    # A group of its own, in the session of the part, so that either can end it.
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, process_group=0)
    try:
        output, said = process.communicate(timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        kill(os.killpg, process.pid)
        said = farewell(process)
        last = f"; it said last: {last_line(said)}" if said.strip() else ""
        raise NoAnswer(f"{Path(command[0]).name}: no end within {seconds:.0f} s{last}") from None
    return subprocess.CompletedProcess(command, process.returncode, output, said)


def farewell(process: subprocess.Popen) -> str:
    """What a killed program had said on stderr."""
    try:
        return process.communicate(timeout=FAREWELL)[1]
    except subprocess.TimeoutExpired:
        return ""


def kill_session(leader: int) -> None:
    """Kills the leader of a session and everything that was started in it."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which may contain anything: state, parent, group, session.
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            kill(os.kill, int(entry.parent.name))
    kill(os.killpg, leader)


def kill(how, process: int) -> None:
    """Whatever has ended by itself needs no killing."""
    try:
        how(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def lines_of(command: list, seconds: float = 10) -> list[str]:
    """What a program prints; nothing where it is missing, fails or does not end."""
    try:
        done = run(command, seconds)
    except (OSError, NoAnswer):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
