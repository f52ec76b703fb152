"""DKIM at the far end: dkimpy and Debian's OpenDKIM, given the public keys as a DNS would hold them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from driver.workplace import CheckError, Workplace


@dataclass(frozen=True, slots=True)
class DkimRecords:
    """TXT records by DNS name."""

    domain: str
    records: Mapping[str, str]

    @classmethod
    def of(cls, var: Path, domain: str) -> DkimRecords:
        """Made from the private keys `<selector>.<algorithm>.pem` in the domain's folder under `var`."""
        records = {}
        for path in sorted(var.rglob(f"{domain}/*.pem")):
            selector = path.name.split(".")[0]
            records[f"{selector}._domainkey.{domain}"] = _record(path)
        if not records:
            raise CheckError(f"no DKIM key of {domain} under {var}")
        return cls(domain, records)

    def verify(self, raw: bytes) -> None:
        """Every signature of ours holds, by dkimpy; at least one is there."""
        message = dkim.DKIM(raw)
        count = len(re.findall(rb"(?im)^dkim-signature:", raw.partition(b"\r\n\r\n")[0]))
        if not count:
            raise CheckError("not signed")
        for index in range(count):
            try:
                good = message.verify(index, dnsfunc=self._txt)
            except dkim.DKIMException as error:
                raise CheckError(f"dkimpy on signature {index + 1}: {error}") from error
            if not good:
                raise CheckError(f"dkimpy: signature {index + 1} of {count} does not hold")
        if message.domain != self.domain.encode():
            raise CheckError(f"signed for {message.domain!r}, not for {self.domain}")

    def verify_by_opendkim(self, workplace: Workplace, raw: bytes, *, holds: bool) -> None:
        """OpenDKIM's verdict on the RSA signature (it knows no Ed25519) is `holds`."""
        expected = [(self.domain, "succeeded" if holds else "failed")]
        verdicts = self._opendkim(workplace, [workplace.file("opendkim.eml", raw)])
        if verdicts != expected:
            raise CheckError(f"opendkim says {verdicts}, expected {expected}")

    def verify_all_by_opendkim(self, workplace: Workplace, messages: Sequence[bytes]) -> None:
        """Every one of them holds."""
        files = [workplace.file(f"opendkim-{number}.eml", raw) for number, raw in enumerate(messages)]
        verdicts = self._opendkim(workplace, files)
        good = verdicts.count((self.domain, "succeeded"))
        if not files or good != len(files):
            raise CheckError(f"opendkim: {good} of {len(files)} signatures hold")

    def _opendkim(self, workplace: Workplace, files: Sequence[Path]) -> list[tuple[str, str]]:
        """Domain and verdict, one a message."""
        keys = "".join(f"{name} {text}\n" for name, text in self.records.items() if "k=rsa" in text)
        config = f"TestPublicKeys {workplace.file('opendkim-keys', keys.encode())}\nMode v\n"
        options = ["-x", workplace.file("opendkim.conf", config.encode()), "-t", ",".join(map(str, files))]
        said = workplace.program("opendkim", ["opendkim", *options])
        return re.findall(r"verification \(s=\S+ d=([^,]+),.*\) (succeeded|failed)", said)

    def _txt(self, name: bytes, timeout: float = 5) -> bytes | None:
        text = self.records.get(name.decode("ascii").rstrip("."))
        return text.encode("ascii") if text is not None else None


def _record(path: Path) -> str:
    private = serialization.load_pem_private_key(path.read_bytes(), None)
    public = private.public_key()
    if isinstance(private, RSAPrivateKey):
        key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; p={base64.b64encode(key).decode('ascii')}"
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode('ascii')}"
