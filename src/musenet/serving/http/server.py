"""Runs the service with uvicorn: where it listens, who may ask, and how it stops."""

import ipaddress
import os
import signal
import stat
import sys
from pathlib import Path

from musenet.config.adaptation import AdaptOptions
from musenet.errors import UserError, missing_extra
from musenet.serving.http.middleware import LOOPBACK, Access

TOKEN_VARIABLE = "MUSENET_TOKEN"
SHORTEST_TOKEN = 16
GRACE_SECONDS = 30
"""For requests under way when the service is told to stop."""
SWITCH_SECONDS = 0.001
"""After which a thread that computes lets the event loop run."""


def access_for(host: str, token_file: Path | None) -> Access:
    """Who may ask a service that listens at this host.

    Args:
        host: a name or address.
        token_file: holds the bearer token; the environment variable `MUSENET_TOKEN` does, if None.

    Raises:
        UserError: if others than this machine could ask and there is no token, or it is too short or open to read.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip() if token_file is None else _read_token(token_file)
    if not token and token_file is None:
        if _is_loopback(host):
            return Access()
        raise UserError(
            f"--host {host} allows access from other machines: give a token of at least {SHORTEST_TOKEN} characters in "
            f"${TOKEN_VARIABLE} or --token-file, or listen at 127.0.0.1"
        )
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        where = f"${TOKEN_VARIABLE}" if token_file is None else str(token_file)
        raise UserError(f"the token in {where} must be {SHORTEST_TOKEN} or more plain characters without spaces")
    return Access(token)


def serve(
    folder: Path,
    host: str,
    port: int,
    store: str,
    token_file: Path | None = None,
    retention: float | None = None,
    adapt: AdaptOptions | None = None,
) -> None:
    """Answer until told to stop; requests under way are finished first.

    Args:
        folder: the export.
        host: where to listen.
        port: where to listen.
        store: as of `Service`.
        token_file: as of `access_for`.
        retention: as of `Service`.
        adapt: as of `Service`.

    Raises:
        UserError: if the export, the store, the token or the port cannot be used, or the extra `serve` is missing.
    """
    access = access_for(host, token_file)
    try:
        import uvicorn

        from musenet.serving.http.app import create_app
        from musenet.serving.http.connections import Connection
    except ImportError as error:
        raise missing_extra(f"serving needs the package {error.name}", "serve") from error
    from musenet.serving.http.structured_log import start_logging
    from musenet.serving.service.service import Service

    app = create_app(Service(folder, store, retention, adapt), access)
    start_logging()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, server.handle_exit)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        server.run()
    except SystemExit as error:
        raise UserError(f"--host {host} --port {port} cannot be listened at: is another service there?") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def _read_token(file: Path) -> str:
    try:
        if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
            raise UserError(f"--token-file {file} can be read by others: chmod 600 {file}")
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {file} cannot be read ({error})") from error
