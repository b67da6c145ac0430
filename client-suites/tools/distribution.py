"""The distribution's programs, run against the broker of PULSAR_SERVICE_URL and PULSAR_ADMIN_URL.

`pulsar-admin` starts a JVM for each command. `pulsar-shell` takes the same commands from a file and runs them in one, so
most go through it; only their exit codes are lost on the way. What a command has printed stands after its number.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import uuid

PATIENCE_S = 300
SERVICE_URL = os.environ["PULSAR_SERVICE_URL"]
ADMIN_URL = os.environ["PULSAR_ADMIN_URL"]
HOME = pathlib.Path(os.environ["PULSAR_HOME"])


def unique(what):
    return f"tools-{what}-{uuid.uuid4().hex[:8]}"


class Output:
    """What a program has printed, and its exit code where it is known."""

    def __init__(self, text, code=None):
        self.text = text
        self.code = code
        # The rest is the log of the client library.
        self.lines = [line for line in text.splitlines() if line and not re.match(r"\d{4}-\d\d-\d\dT", line)]

    def plain(self):
        return "\n".join(self.lines).strip()

    def json(self):
        return json.loads(self.plain())


class Workplace:
    """A directory for configuration and logs; the programs take their addresses from a file in it."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="pulsar-tools-")
        self.path = pathlib.Path(self.directory.name)
        self.file("client.conf", f"webServiceUrl={ADMIN_URL}\nbrokerServiceUrl={SERVICE_URL}\n")

    def close(self):
        self.directory.cleanup()

    def file(self, name, text):
        path = self.path / name
        path.write_text(text)
        return path

    def run(self, program, *arguments):
        environment = dict(
            os.environ,
            PULSAR_CLIENT_CONF=str(self.path / "client.conf"),
            PULSAR_LOG_DIR=str(self.path),
            # pulsar-perf allocates its histograms at once, more than a quarter of a gigabyte.
            PULSAR_EXTRA_OPTS="-Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            # The shell remembers its configurations there.
            HOME=str(self.path),
        )
        done = subprocess.run(
            [HOME / "bin" / program, *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        return Output(done.stdout, done.returncode)

    def shell(self, commands):
        """Runs all commands, also after one that fails; returns the output of each."""
        script = self.file("commands", "".join(command + "\n" for command in commands))
        printed = self.run("pulsar-shell", "--no-progress", "--filename", script).text
        heading = re.compile(rf"^\[(\d+)/{len(commands)}\] Executing .*$", re.MULTILINE)
        parts = heading.split(printed)
        outputs = {int(number): Output(text) for number, text in zip(parts[1::2], parts[2::2])}
        if sorted(outputs) != list(range(1, len(commands) + 1)):
            raise AssertionError(f"the shell did not run all {len(commands)} commands:\n{printed}")
        return [outputs[number] for number in range(1, len(commands) + 1)]
