"""A ``python`` for commands that run one after another: it forks a process that has imported torch and Lightning."""

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(server.recv(1)[0])
"""


@contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """Serve a folder with an executable ``python``."""
    address = folder / "socket"
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, str(address)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        yield folder
        server.terminate()


def run(args: list[str]) -> int:
    """Run what the arguments of an interpreter say, a module or a script, and return its exit code."""
    try:
        sys.argv = args[1:] if args[0] == "-m" else args
        if args[0] == "-m":
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(args[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as an interpreter does
        traceback.print_exc()
        return 1
    return 0


def serve(address: str) -> None:
    """Run each command that a client sends in a fork."""
    import matplotlib.pyplot  # noqa: F401
    import seaborn  # noqa: F401

    import genoseq.app.model
    import genoseq.report.plots  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks are not waited for
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    for n, file in enumerate(files):
        os.dup2(file, n)
    args, cwd, variables = json.loads(client.makefile().read())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    code = run(args)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    client.sendall(bytes([code]))
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
