"""A private RabbitMQ.

1. `RabbitServer`: a node with its own name, port mapper, cookie, data, settings; vhosts within milliseconds.
2. `find_rabbit`: where its scripts are.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from tests.servers import guard
from tests.servers.process import Server, find_program, free_port

__all__ = ["RabbitServer", "find_rabbit"]

#: Debian's wrappers on PATH become another user; these do not.
_SCRIPTS = (
    "/usr/lib/rabbitmq/bin",
    "/opt/rabbitmq/sbin",
    "/usr/local/opt/rabbitmq/sbin",
    "/opt/homebrew/sbin",
)


def find_rabbit() -> str:
    """Path of the `rabbitmq-server` script. The environment variable ``RABBITMQ_SERVER`` names another."""
    if chosen := os.environ.get("RABBITMQ_SERVER"):
        return chosen
    for folder in _SCRIPTS:
        if found := shutil.which("rabbitmq-server", path=folder):
            return found
    if found := find_program("rabbitmq-server"):
        return found
    raise RuntimeError("No rabbitmq-server was found. Run `scripts/provide-servers`, or install RabbitMQ.")


class RabbitServer(Server):
    """A RabbitMQ node.

    Attributes:
        url: ``amqp://guest:guest@127.0.0.1:<port>//``, the default vhost.

    Args:
        config: lines of its `rabbitmq.conf`, e.g. ``{"consumer_timeout": 5000, "heartbeat": 4}``.
        plugins: to enable, e.g. ``"rabbitmq_management"`` (which then listens on `management_port`).
        advanced: settings of the application ``rabbit`` that `rabbitmq.conf` does not have.

    Example::

        server = RabbitServer({"vm_memory_high_watermark.absolute": "64MB"})
        url = server.vhost()            # nobody else's queues
        server.kill()                   # and all of its memory
        server.start()                  # the same port and data
    """

    patience = 60.0

    def __init__(
        self,
        config: Mapping[str, object] | None = None,
        plugins: tuple[str, ...] = (),
        advanced: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__("rabbit")
        self._advanced = "".join(f" -rabbit {key} {value}" for key, value in (advanced or {}).items())
        self._script = find_rabbit()
        self._cookie = secrets.token_hex(10).upper()
        self._mapper_port, self._dist_port = free_port(), free_port()
        self.management_port = free_port()
        self._vhosts = self._calls = 0
        self.node = f"celeriac-{self.port}@localhost"
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._write_settings(config or {}, plugins)
        self._mapper = self._start_mapper()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def _write_settings(self, config: Mapping[str, object], plugins: tuple[str, ...]) -> None:
        lines: dict[str, object] = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "loopback_users": "none",
            "log.console": "true",
            "log.console.level": "warning",
            "disk_free_limit.absolute": "50MB",
        }
        if "rabbitmq_management" in plugins:
            lines |= {"management.tcp.port": self.management_port, "management.tcp.ip": "127.0.0.1"}
        text = "".join(f"{key} = {value}\n" for key, value in (lines | dict(config)).items())
        (self.folder / "rabbitmq.conf").write_text(text)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)

    def _start_mapper(self) -> subprocess.Popen[bytes]:
        """The port mapper of Erlang. Without one of our own, the node would leave a daemon behind."""
        epmd = find_program("epmd", _erts())
        assert epmd, "Erlang's epmd was not found"
        return self.spawn([epmd])

    def environment(self) -> Mapping[str, str]:
        home = str(self.folder)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return kept | {
            "HOME": home,
            "detached": "1",  # the script becomes the server; no shell above it
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_BASE": home,
            "RABBITMQ_HOME_DIR": home,
            "RABBITMQ_CONF_ENV_FILE": f"{home}/none",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/generated",
            "RABBITMQ_SCHEMA_DIR": f"{home}/schema",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_PLUGINS_EXPAND_DIR": f"{home}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            # Spinning schedulers would take the processor from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}" + self._advanced,
        }

    def command(self) -> list[str]:
        return [self._script]

    def answers(self) -> bool:
        return self.ask(b"AMQP\x00\x00\x09\x01").startswith(b"\x01\x00\x00")  # Connection.Start

    def stop(self) -> None:
        self.end(signal.SIGKILL)
        if self._mapper.poll() is None:
            self._mapper.kill()
            self._mapper.wait(10)
        guard.forget(self._mapper.pid)
        super().stop()

    def eval(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node, and return what it gave, as text. Some 20 ms.

        A node that does not let the call in yet (it has just been started) is asked again for 10 s.
        """
        deadline = time.monotonic() + 10
        while True:
            words, found = self._call(expression)
            given = f"{expression}.\n".encode()
            done = subprocess.run(words, input=given, capture_output=True, env=self.environment(), timeout=30)
            text, error = done.stdout.decode().strip(), done.stderr.decode()
            if not done.returncode and (not found or text.startswith("{ok")):
                return text.removeprefix("{ok, ").removesuffix("}") if found else text
            if "failed to connect" not in error or time.monotonic() > deadline:
                raise RuntimeError(f"{expression}\n{text}\n{error}")
            time.sleep(0.02)

    def _call(self, expression: str) -> tuple[list[str], bool]:
        """The command that evaluates, and whether it is `erl_call`, which reads the expression."""
        if call := find_program("erl_call", _erts()):
            self._calls += 1  # the name of its own node: without one all calls have the same
            name = f"call-{self.port}-{self._calls}"
            return [call, "-h", name, "-sname", self.node, "-c", self._cookie, "-e"], True
        return [str(Path(self._script).with_name("rabbitmqctl")), "-n", self.node, "eval", expression], False

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """It believes to have no memory left. Its connections know so inside, and of the end afterwards."""
        usual = self.eval("vm_memory_monitor:get_vm_memory_high_watermark()")
        self._set_watermark("0.0000001", alarmed=True)
        try:
            yield
        finally:
            self._set_watermark(usual, alarmed=False)

    def _set_watermark(self, mark: str, *, alarmed: bool) -> None:
        self.eval(f"vm_memory_monitor:set_vm_memory_high_watermark({mark})")
        # The monitor only leaves a note for the alarms' process. That tells the connections in one step with
        # changing what it answers here.
        self.wait_until(
            lambda: alarmed == (self.eval("rabbit_alarm:get_alarms()") != "[]"), "has its old alarms"
        )

    def vhost(self, name: str | None = None) -> str:
        """Make a fresh vhost (isolation between tests); its URL."""
        self._vhosts += 1
        name = name or f"v{self._vhosts}"
        self.eval(
            f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
            f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)'
        )
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def drop_vhost(self, url: str) -> None:
        """Delete a vhost with its queues and connections."""
        name = url.rpartition("/")[2]
        self.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"tests">>)')

    def connections(self) -> int:
        """How many clients are connected."""
        return int(self.eval("length(rabbit_networking:connections())"))

    def close_all_connections(self) -> None:
        """Close every client's connection from the server's side."""
        self.eval('rabbit_networking:close_connections(rabbit_networking:connections(), <<"test">>)')


def _erts() -> Iterator[str]:
    for pattern in (
        "/usr/lib/erlang/erts-*/bin",
        "/usr/local/lib/erlang/erts-*/bin",
        "/opt/*/erlang/erts-*/bin",
    ):
        yield from sorted(glob(pattern), reverse=True)
