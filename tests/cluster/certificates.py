"""A certificate authority of the cluster's own and what it signs; made anew at each start and gone with the cluster."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .settings import API_SERVICE_ADDRESS, CLUSTER_DOMAIN, CONTROL_PLANE, NODES, Folders

_LIFETIME = datetime.timedelta(days=30)
# Clocks of one machine agree, but a certificate that starts this very second may be looked at in the last one.
_BACKDATED = datetime.timedelta(minutes=5)
_API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}")
_MASTERS = "system:masters"
FRONT_PROXY = "front-proxy"
"""Who may tell an extension of the API server on whose behalf it asks."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who a certificate is for: a name and group that Kubernetes knows, and where it may serve."""

    file: str
    name: str
    group: str = ""
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


CLIENTS = (
    Subject(file="admin", name="shardwise-admin", group=_MASTERS),
    Subject(file="controller-manager", name="system:kube-controller-manager"),
    Subject(file="scheduler", name="system:kube-scheduler"),
    Subject(file="proxy", name="system:kube-proxy"),
    *(Subject(file=f"kubelet-{node.name}", name=f"system:node:{node.name}", group="system:nodes") for node in NODES),
)
"""Whoever talks to the API server with a kubeconfig."""

_OTHERS = (
    Subject(
        file="apiserver",
        name="kube-apiserver",
        hosts=("localhost", *_API_NAMES),
        addresses=("127.0.0.1", CONTROL_PLANE.address, API_SERVICE_ADDRESS),
    ),
    Subject(file="apiserver-kubelet-client", name="kube-apiserver-kubelet-client", group=_MASTERS),
    Subject(file="apiserver-etcd-client", name="kube-apiserver-etcd-client"),
    Subject(file="front-proxy", name=FRONT_PROXY),
    Subject(file="etcd", name="etcd", hosts=("localhost",), addresses=("127.0.0.1",)),
    *(
        Subject(file=f"serving-{node.name}", name=node.name, hosts=(node.name,), addresses=(node.address,))
        for node in NODES
    ),
)


def create(folders: Folders) -> None:
    """Write the CA, the service-account key and every certificate into the cluster's folder."""
    folders.certificates.mkdir(parents=True, mode=0o700)
    authority = _Authority.create()
    (folders.certificates / "ca.crt").write_bytes(_pem(authority.certificate))
    _write_key(folders.certificates / "service-accounts.key", ec.generate_private_key(ec.SECP256R1()))
    for subject in (*CLIENTS, *_OTHERS):
        key = ec.generate_private_key(ec.SECP256R1())
        (folders.certificates / f"{subject.file}.crt").write_bytes(_pem(authority.sign(subject, key=key)))
        _write_key(folders.certificates / f"{subject.file}.key", key)


def issued(*, name: str, hosts: tuple[str, ...]) -> tuple[bytes, bytes, bytes]:
    """Return an authority's certificate, a server's certificate by it and the server's key, as PEM, for one service."""
    authority = _Authority.create()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign(Subject(file=name, name=name, hosts=hosts), key=key)
    return _pem(authority.certificate), _pem(certificate), _key_pem(key)


@dataclass(frozen=True)
class _Authority:
    """The CA. Its key is kept in memory only: nobody needs it after the start."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls) -> _Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _distinguished_name("shardwise-test-cluster")
        usage = _key_usage(signs_certificates=True)
        certificate = (
            _builder(subject=name, issuer=name, key=key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def sign(self, subject: Subject, *, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        name = _distinguished_name(subject.name, group=subject.group)
        # An etcd dials itself with its serving certificate, so everybody is a client.
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        names = _alternative_names(hosts=subject.hosts, addresses=subject.addresses)
        builder = _builder(subject=name, issuer=self.certificate.subject, key=key.public_key())
        if names:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def _builder(*, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
    )


def _distinguished_name(name: str, *, group: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _alternative_names(*, hosts: Sequence[str], addresses: Sequence[str]) -> list[x509.GeneralName]:
    return [
        *(x509.DNSName(host) for host in hosts),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(_key_pem(key))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Of the two formats only this one is read where a public key is wanted too: for service accounts.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
