"""A server that asks for TLS: the log works through it, and a server that nobody vouches for is not spoken to."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.worlds import surely

from hocket.errors import Unavailable
from hocket.log.base import Write
from hocket.log.jetstream import connect
from hocket.log.server import EmbeddedServer

OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl here to make certificates with")


def openssl(folder: Path, *arguments: str) -> None:
    """Run it, in a folder."""
    subprocess.run([str(OPENSSL), *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The certificate of who vouches for the server, beside the server's own."""
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    of_authority = ("-subj", "/CN=a test's authority", "-addext", "keyUsage=critical,keyCertSign")
    openssl(tmp_path, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", *of_authority)
    openssl(tmp_path, "req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl(tmp_path, "x509", "-req", "-in", "server.csr", *by, "-out", "server.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
async def server(authority: Path) -> AsyncIterator[EmbeddedServer]:
    """A server that speaks to nobody without TLS."""
    folder = authority.parent
    tls = f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key" }}'
    async with EmbeddedServer(folder / "store", extra=tls) as server:
        yield server


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_log_is_written_and_read_through_tls_and_again_when_the_server_is_back(
    scheme: str, server: EmbeddedServer, authority: Path, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    url = server.url.replace("nats", scheme)
    async with connect(url, domain=domain) as [log]:
        large = bytes(300_000)
        last = await log.append([Write(f"{domain}.0.a.{i}", large if i % 10 == 0 else b"x") for i in range(50)])
        await server.kill()
        await server.restart()
        await surely(log, Write(f"{domain}.0.b", b"y"))

        found = [message async for message in log.scan([f"{domain}.0.a.*"])]
        newest = await log.last(f"{domain}.0.b")

    assert [len(message.data) for message in found] == [300_000 if i % 10 == 0 else 1 for i in range(50)]
    assert newest is not None
    assert newest.seq > last


async def test_a_server_that_nobody_vouches_for_is_not_spoken_to(server: EmbeddedServer, domain: str) -> None:
    with pytest.raises(Unavailable, match="certificate verify failed"):
        async with connect(server.url.replace("nats", "tls"), domain=domain, timeout_s=3):
            raise AssertionError("it was spoken to")
