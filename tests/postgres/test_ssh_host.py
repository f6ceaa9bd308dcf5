"""What an admin names for a tunnel is read as it was meant, or refused with a reason."""

import subprocess
from pathlib import Path

import pytest

from app.errors import ConnectError, InvalidInput
from app.postgres.ssh_host import fingerprint, parse_host_key, parse_ssh_host, scan_host_key
from tests.sshd import an_sshd, new_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
CANARY = "canary-secret"


def refusal(url: str, identity: str = "/keys/id", key: str = KEY) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        parse_ssh_host(url, identity, key)
    assert refused.value.hint
    return refused.value


@pytest.mark.parametrize(
    ("url", "host", "port", "user"),
    [
        ("ssh://ann@bastion.example.com:2222", "bastion.example.com", 2222, "ann"),
        (" ssh://ann@bastion/ \n", "bastion", 22, "ann"),
        ("ssh://backup.user-1@10.0.0.5:22", "10.0.0.5", 22, "backup.user-1"),
        ("ssh://ann@[2001:db8::1]:22", "2001:db8::1", 22, "ann"),
    ],
)
def test_an_address_is_read(url: str, host: str, port: int, user: str):
    ssh = parse_ssh_host(url, "/keys/id", KEY + " comment of somebody")
    assert (ssh.host, ssh.port, ssh.user) == (host, port, user)
    assert (ssh.identity_file, ssh.host_key) == (Path("/keys/id"), KEY)
    assert parse_ssh_host(str(ssh), "/keys/id", KEY) == ssh


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not an SSH address"),
        ("bastion", "not an SSH address"),
        ("ssh://bastion", "not an SSH address"),
        ("http://ann@bastion", "not an SSH address"),
        ("ssh://ann@bastion:22/path", "not an SSH address"),
        ("ssh://ann@bob@bastion", "not an SSH address"),
        (f"ssh://ann:{CANARY}@bastion", "with a password"),
        ("ssh://@bastion", "user in the SSH address"),
        ("ssh://-oProxyCommand=x@bastion", "user in the SSH address"),
        ("ssh://an n@bastion", "user in the SSH address"),
        ("ssh://ann\n@bastion", "user in the SSH address"),
        ("ssh://ann@", "host in the SSH address"),
        ("ssh://ann@-oProxyCommand=x", "host in the SSH address"),
        ("ssh://ann@bas tion", "host in the SSH address"),
        ("ssh://ann@bas\x00tion", "host in the SSH address"),
        ("ssh://ann@bastion\nother", "host in the SSH address"),
        ("ssh://ann@%h", "host in the SSH address"),
        ("ssh://ann@[bastion;x]", "host in the SSH address"),
        ("ssh://ann@bastion:0", "port in the SSH address"),
        ("ssh://ann@bastion:65536", "port in the SSH address"),
        ("ssh://ann@bastion:٢٢", "port in the SSH address"),
        ("ssh://ann@bastion:22x", "port in the SSH address"),
    ],
)
def test_a_wrong_address_is_refused(url: str, message: str):
    error = refusal(url)
    assert message in error.message
    assert CANARY not in error.in_words()


@pytest.mark.parametrize("path", ["", "id", "~/id", "-x", "/keys/%h", "/keys/${HOME}", "/a\nb"])
def test_a_wrong_path_of_the_identity_is_refused(path: str):
    assert "identity file" in refusal("ssh://ann@bastion", path).message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "not the public key"),
        (f"bastion {KEY}", "not the public key"),
        (f"@cert-authority * {KEY}", "not the public key"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "not the public key"),
        (f"-----BEGIN OPENSSH PRIVATE KEY----- {CANARY}", "not the public key"),
        ("SHA256:uNiVztksCsDhcc0u9e8BrwXVGDIzBzyWi8CYa1BH9E0", "not the public key"),
        ("ssh-ed25519", "damaged"),
        (KEY[:-8], "damaged"),
        (KEY.replace("ssh-ed25519", "ssh-rsa"), "damaged"),
        (f"ssh-ed25519 {CANARY}", "damaged"),
    ],
)
def test_a_key_of_another_form_is_refused(key: str, message: str):
    error = refusal("ssh://ann@bastion", key=key)
    assert message in error.message
    assert CANARY not in error.in_words()


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path):
    key = parse_host_key(new_key(tmp_path / "key"))
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split()[1] == fingerprint(key)


def test_a_host_is_asked_for_its_key(tmp_path: Path):
    with an_sshd(tmp_path / "sshd") as sshd:
        assert scan_host_key("127.0.0.1", sshd.address.port) == sshd.address.host_key
        sshd.kill()
        with pytest.raises(ConnectError, match="no SSH host at") as refused:
            scan_host_key("127.0.0.1", sshd.address.port)
    assert "refused or timed out" in refused.value.detail
    assert "Does sshd run" in refused.value.hint


def test_a_host_that_looks_like_an_option_is_not_asked():
    with pytest.raises(InvalidInput, match="host in the SSH address"):
        scan_host_key("-f/etc/passwd", 22)
