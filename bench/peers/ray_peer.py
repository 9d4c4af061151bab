"""Ray, from PyPI: an installation outside the tree, and one turn of either of its two APIs.

Footprint of a turn: two CPUs, no dashboard, 200 MB of object store, no usage statistics, no
authentication (muster needs none on loopback either), and all files, its HOME among them, in a
scratch directory.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

from harness.programs import ROOT, BenchError, Context, clean_environment, measure, run

VERSION = "2.60"
REQUIREMENT = f"ray[cpp]=={VERSION}.*"
HERE = pathlib.Path(__file__).resolve().parent
HEAD_PORT = 6379  # Ray's C++ API starts its head there and nowhere else.
TURN_TIMEOUT_S = 600


def cache_directory() -> pathlib.Path:
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "muster" / f"ray-{VERSION}"


class Ray:
    """An installed Ray. Thread-safety: none. Errors: BenchError."""

    def __init__(self, context: Context):
        self._home = cache_directory()
        self._python = self._home / "bin" / "python"
        self._install(context)
        self._cpp = self._cpp_directory()
        self._program = self._build(context)
        _require_free_port(HEAD_PORT)  # Now, rather than after the first turns.

    def measure_python(self, flags: list[str]) -> list[dict]:
        return self._turn([str(self._python), "-B", str(HERE / "ray_tasks.py"), *flags])

    def measure_cpp(self, flags: list[str]) -> list[dict]:
        _require_free_port(HEAD_PORT)
        return self._turn([str(self._program), f"--code={self._library(self._program)}", *flags])

    def _turn(self, command: list[str]) -> list[dict]:
        # Not in TMPDIR: Ray's socket paths allow for a short one only.
        scratch = pathlib.Path(tempfile.mkdtemp(prefix="mb-", dir="/tmp"))
        try:
            (scratch / "home").mkdir()
            environment = clean_environment(
                HOME=str(scratch / "home"),
                PATH=f"{self._home / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}",
                RAY_AUTH_MODE="disabled",
                RAY_USAGE_STATS_ENABLED="0",
            )
            return measure(
                [*command, f"--temp-dir={scratch}"],
                TURN_TIMEOUT_S,
                environment=environment,
                cpus=two_cpus(),
                leaves_daemons=True,
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _install(self, context: Context) -> None:
        done = self._home / "muster-installed"
        if done.exists() and self._python.exists() and done.read_text() == REQUIREMENT:
            return
        context.progress(f"installing {REQUIREMENT} in {self._home} (about 400 MB, once)")
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.parent.mkdir(parents=True, exist_ok=True)
        _install_step(
            [sys.executable, "-m", "venv", str(self._home)],
            "python3-venv may be missing: run scripts/setup",
        )
        _install_step(
            [
                str(self._python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
                REQUIREMENT,
            ],
            "it comes from PyPI, so the network is needed the first time",
        )
        done.write_text(REQUIREMENT)

    def _cpp_directory(self) -> pathlib.Path:
        text = run([str(self._python), "-c", "import ray; print(ray.__path__[0])"], 120)
        directory = pathlib.Path(text.split()[-1]) / "cpp"
        if not (directory / "include" / "ray" / "api.h").exists():
            raise BenchError(
                f"Ray's C++ headers are not in {directory}; remove {self._home} to install it again"
            )
        return directory

    def _build(self, context: Context) -> pathlib.Path:
        """The C++ application, kept beside Ray until a source or the compiler's flags change."""
        source = HERE / "ray_tasks.cc"
        common = [
            *("-std=c++17", "-O2", "-D_GLIBCXX_USE_CXX11_ABI=0"),  # Ray is built with the old ABI.
            *("-I", str(ROOT), "-isystem", str(self._cpp / "include"), str(source)),
            *(
                "-L",
                str(self._cpp / "lib"),
                f"-Wl,-rpath,{self._cpp / 'lib'}",
                "-lray_api",
                "-pthread",
            ),
        ]
        content = (
            source.read_bytes()
            + (HERE.parent / "workloads.h").read_bytes()
            + " ".join(common).encode()
        )
        directory = self._home / "muster-bench" / hashlib.sha256(content).hexdigest()[:16]
        program = directory / "ray_tasks"
        if not program.exists():
            context.progress("building the workloads against Ray's C++ API")
            directory.mkdir(parents=True, exist_ok=True)
            unfinished = directory / "ray_tasks.new"
            run(["c++", *common, "-shared", "-fPIC", "-o", str(self._library(program))], 300)
            run(["c++", *common, "-o", str(unfinished)], 300)
            unfinished.rename(program)
        return program

    @staticmethod
    def _library(program: pathlib.Path) -> pathlib.Path:
        return program.parent / "libray_tasks.so"


def two_cpus() -> set[int]:
    """Which CPUs every system under comparison gets: the first two that we may use."""
    return set(sorted(os.sched_getaffinity(0))[:2])


def _install_step(command: list[str], hint: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env=clean_environment(),
        check=False,
    )
    if done.returncode != 0:
        tail = "".join(f"\n    {line}" for line in (done.stderr or done.stdout).splitlines()[-6:])
        raise BenchError(
            f"cannot install {REQUIREMENT}: {hint}\n"
            f"    {' '.join(command)} ended with {done.returncode}{tail}"
        )


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            raise BenchError(
                f"port {port} is in use, by a muster or Ray head or another program: "
                "end that first (Ray's C++ API starts its head on no other port)"
            ) from None
