"""Makes a private certificate authority and a server's certificate signed by it, valid for a day."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_VALID = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Certificates:
    authority: Path
    """What clients must trust: the content of `ca.crt`."""
    certificate: Path
    key: Path


def private_authority(folder: Path, address: str = "127.0.0.1") -> Certificates:
    """For one server at `address` and at localhost."""
    folder.mkdir(parents=True, exist_ok=True)
    signing, serving = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Private authority of a development machine")
    authority = _unsigned(issuer, issuer, signing.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    )
    server = _unsigned(_name("object store"), issuer, serving.public_key()).add_extension(
        names, critical=False
    )
    made = Certificates(
        authority=folder / "ca.crt", certificate=folder / "server.crt", key=folder / "server.key"
    )
    made.authority.write_bytes(_signed(authority, signing))
    made.certificate.write_bytes(_signed(server, signing))
    made.key.write_bytes(_pem(serving))
    made.key.chmod(0o600)
    return made


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALID)
    )


def _signed(certificate: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    return certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
