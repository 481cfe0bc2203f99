"""The HTTP server: uvicorn in a thread of its own, with its own event loop, beside everything else."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Collection

import uvicorn

from gateway.access import is_loopback
from gateway.app import create_app
from gateway.connections import AT_ONCE, BACKLOG, Connections, Server, affordable
from gateway.doorway import Doorway
from gateway.ports import FrontDoor, HttpSettings, Log, silent
from gateway.protocol import HttpProtocol

START_TIMEOUT = 10.0
KEEP_ALIVE = 60
"""Seconds an idle connection is kept: longer than clients' pools keep theirs, so that they close first."""


class HttpServer:
    """One listening address. `start` and `stop` may be called from any thread, once each."""

    def __init__(
        self,
        router: FrontDoor,
        settings: HttpSettings,
        *,
        metrics: Callable[[], bytes],
        version: str,
        phases: Collection[str] = (),
        log: Log = silent,
        heartbeat: float = 15.0,
        stalled: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`stalled` says why the store confirms nothing, once it is silent for some seconds."""
        if settings.http_address is None:
            raise ValueError("http_bind is off: there is no address to listen on")
        host, port = settings.http_address
        if not is_loopback(host) and settings.api_token is None:
            raise ValueError(f"binding {host} needs an api_token: others can reach that address")
        self._host, self._port = host, port
        self.app = create_app(
            router,
            settings,
            metrics=metrics,
            version=version,
            phases=phases,
            log=log,
            heartbeat=heartbeat,
            stalled=stalled,
        )
        self._door: Doorway = self.app.state.door
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening = threading.Event()
        self._failure: BaseException | None = None

    @staticmethod
    def reserve(settings: HttpSettings) -> socket.socket:
        """Take the address without listening there yet: what is refused for it costs nothing so far.

        Raises `OSError` naming the address when it cannot be had.
        """
        assert settings.http_address is not None
        return _bind(*settings.http_address)

    def start(self, reserved: socket.socket | None = None) -> None:
        """Listen, at the address that was reserved; returns when requests are served.

        Raises `OSError` naming the address when it cannot be had.
        """
        listener = reserved or _bind(self._host, self._port)
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise _taken(error, self._host, self._port) from error
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,  # logging belongs to the process, which has set it up
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on the client's address
            timeout_keep_alive=KEEP_ALIVE,
            backlog=AT_ONCE,
        )
        self._server = Server(config, Connections(affordable(), self._door.log))
        self._thread = threading.Thread(target=self._run, args=(listener,), name="http", daemon=True)
        self._thread.start()
        if not self._listening.wait(START_TIMEOUT) or self._failure is not None:
            listener.close()
            raise OSError(f"the HTTP server did not start on {self.url}") from self._failure

    def stop(self, timeout: float = 5.0) -> None:
        """Close the listener, end streams and waits, let running requests finish, at most `timeout` seconds.

        Safe to call twice, and when it was never started.
        """
        server, thread, loop = self._server, self._thread, self._loop
        if server is None or thread is None or loop is None or not thread.is_alive():
            return
        # The loop has its own way to break off; the thread is waited for a little longer than that.
        server.config.timeout_graceful_shutdown = max(0.1, timeout - 0.5)  # type: ignore[assignment]  # any number will do
        server.should_exit = True
        loop.call_soon_threadsafe(self._door.close)
        thread.join(timeout + 1.0)
        if thread.is_alive():
            server.force_exit = True
            thread.join(1.0)

    def configure(self, settings: HttpSettings) -> None:
        """Obey a reloaded configuration: token, hosts, limits. The address stays."""
        self._door.configure(settings)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; the real port once started, also when 0 was asked for."""
        return self._host, self._port

    @property
    def url(self) -> str:
        """Where clients on this machine find it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104  # compared, not bound
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def stats(self) -> dict[str, int]:
        """Return the door's figures; names are those of the metrics."""
        connections = None if self._server is None else self._server.connections
        return {
            **self._door.stats(),
            "http_connections": 0 if connections is None else len(connections.connections),
            "http_connections_refused": 0 if connections is None else connections.refused,
        }

    def _run(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listener))
        except BaseException as error:  # noqa: BLE001  # told to `start`, and to the log: a thread has nobody to raise to
            self._failure = error
            self._door.log("error", where="http server", error_type=type(error).__name__, error_message=str(error))
        finally:
            self._listening.set()

    async def _serve(self, listener: socket.socket) -> None:
        server = self._server
        assert server is not None
        self._loop = asyncio.get_running_loop()
        # The listener takes connections since `listen`; they are served as soon as this loop gets to them.
        self._loop.call_soon(self._listening.set)
        await server.serve(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restarted daemon must not wait for connections of the last one to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _taken(error, host, port) from error
    return listener


def _taken(error: OSError, host: str, port: int) -> OSError:
    why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
    return OSError(error.errno, f"cannot listen on {host}:{port}: {why}")
