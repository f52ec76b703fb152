"""Old TLS: spoken by the context for isolated listeners alone, with a certificate that is followed like the others."""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path

import pytest
from tls_kit import Setting, client_context, handshake


def old_client() -> ssl.SSLContext:
    """A client that has nothing newer than TLS 1.0."""
    context = client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.fixture(params=[True, False], ids=["RSA", "ECDSA"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write("main", "old.example", rsa=request.param)
    setting.start(minimum="1.3")
    return setting


def test_a_client_of_tls_1_0_is_served_by_the_context_for_it_alone(setting: Setting) -> None:
    _, server = handshake(setting.certificates.for_old_tls, old_client())
    assert server.version() == "TLSv1"
    with pytest.raises(ssl.SSLError):
        handshake(setting.certificates.context, old_client())


def test_a_new_client_still_gets_the_newest_version_there(setting: Setting) -> None:
    _, server = handshake(setting.certificates.for_old_tls, client_context())
    assert server.version() == "TLSv1.3"


def test_the_context_is_kept_until_the_certificate_is_renewed(setting: Setting) -> None:
    before = setting.certificates.for_old_tls
    assert setting.certificates.for_old_tls is before
    setting.write("main", "new.example", days=120)
    setting.certificates.look()
    client, _ = handshake(setting.certificates.for_old_tls, old_client())
    assert client.getpeercert()["subjectAltName"] == (("DNS", "new.example"),)  # type: ignore[index]
