"""Between the runner and a script: nothing that a script starts outlives its attempt, or the runner.

A script may leave a daemon behind in a session of its own, ignore SIGTERM, or lose its runner to a SIGKILL. This
process adopts whatever a script leaves (the kernel's "child subreaper") and ends only when nothing of it is left. It
obeys one pipe, whose end of file is the runner's death; a signal could be missed, or meant for somebody else.

It is run by its path (`python -I -S subreaper.py CONTROL STATUS FILES COMMAND …`), once per attempt, and imports
little.
"""

import ctypes
import os
import resource
import select
import signal
import sys
import time

TERMINATE, KILL = b"T", b"K"
"""What is asked for through the pipe."""
AS_HERE = "-"
"""In place of FILES: the script may open as many files as this process."""
LINGER_SECONDS = 1.0
"""For what a script has started to end by itself after it: to clean up takes a moment."""
PATIENCE_SECONDS = 5.0
"""For processes to vanish that were killed: one that hangs in the kernel does not."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SLICE_SECONDS = 0.02


def keep(*, control: int, status: int, files: str, command: list[str]) -> None:
    """Run a command and write what became of it: `exit N`, `signal N` or `error TEXT`.

    It is written when the command ends, before what that has left behind is waited for; this process ends after it.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler, not SIG_IGN, which the script would inherit.
        signal.signal(number, lambda *_: None)
    woken, waking = os.pipe()
    for end in (woken, waking):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for end in (control, status):
        os.set_inheritable(end, False)
    child, problem = _start(command, files=files)
    if problem:
        _say(status, f"error {problem}")
        return
    _wait(child, control=control, status=status, woken=woken)


def _say(status: int, text: str) -> None:
    try:  # noqa: SIM105 (contextlib takes longer to import than all else here)
        os.write(status, text.encode())
    except OSError:
        # The runner is gone: what is kept here must go too, told or not.
        pass


def _start(command: list[str], *, files: str) -> tuple[int, str]:
    reading, writing = os.pipe()
    subreaper = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            # Should this process be killed, there is nobody left to kill the script.
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != subreaper:
                os._exit(1)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                # Python ignores them, and who is executed would.
                signal.signal(number, signal.SIG_DFL)
            if files != AS_HERE:
                resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            os.execvp(command[0], command)  # noqa: S606 (a list, without a shell)
        except OSError as error:
            os.write(writing, (error.strerror or str(error)).encode())
        finally:
            os._exit(127)
    os.close(writing)
    problem = os.read(reading, 4096).decode()
    os.close(reading)
    if problem:
        os.waitpid(child, 0)
    return child, problem


def _wait(child: int, *, control: int, status: int, woken: int) -> None:
    ended = False
    kill_from = killed_since = float("inf")
    # Not `select`, which knows no number beyond 1023: the runner may have as many files open.
    listening = select.poll()
    for end in (control, woken):
        listening.register(end, select.POLLIN)
    while True:
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == child:
                    ended = True
                    how = found[1]
                    _say(status, f"signal {os.WTERMSIG(how)}" if os.WIFSIGNALED(how) else f"exit {os.WEXITSTATUS(how)}")
                    kill_from = min(kill_from, time.monotonic() + LINGER_SECONDS)
        except ChildProcessError:
            return
        now = time.monotonic()
        if now >= kill_from:
            killed_since = min(killed_since, now)
            _kill_children()
            if ended and now - killed_since > PATIENCE_SECONDS:
                return
        ready = {end for end, _ in listening.poll(None if kill_from == float("inf") else _SLICE_SECONDS * 1000)}
        if woken in ready:
            os.read(woken, 4096)
        if control in ready:
            asked = os.read(control, 64)
            if not asked:
                listening.unregister(control)
            if not asked or KILL in asked:
                kill_from = now
            elif not ended:
                os.killpg(child, signal.SIGTERM)


def _kill_children() -> None:
    # Only this process's own: until it has waited for them, their numbers are nobody else's. Theirs come to it next.
    parent = os.getpid()
    for entry in os.listdir("/proc"):  # noqa: PTH208 (pathlib takes longer to import than all else here)
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stream:  # noqa: PTH123
                fields = stream.read().rpartition(b")")[2].split()
            if int(fields[1]) == parent and fields[0] != b"Z":
                os.kill(int(entry), signal.SIGKILL)
        except OSError:
            continue


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    keep(control=int(sys.argv[1]), status=int(sys.argv[2]), files=sys.argv[3], command=sys.argv[4:])
