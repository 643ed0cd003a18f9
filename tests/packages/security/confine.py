#!/usr/bin/env python3
"""Runs a command as systemd would with what a unit says of system calls, memory, namespaces and capabilities.

usage: confine.py UNIT [--user UID] -- COMMAND ...

Nothing of systemd runs where the tests run, so this reads the unit and does the same to itself: system call groups come from
`systemd-analyze syscall-filter`, the filter is loaded by libseccomp, capabilities go with prctl(2). What mounts do
(ProtectSystem= and the like) is not done. A directive about system calls that it does not know is an error.
"""
import ctypes
import errno
import os
import platform
import re
import subprocess
import sys

SCMP_ACT_ALLOW = 0x7FFF0000
ERRNO = 0x00050000
NE, EQ, MASKED_EQ = 1, 4, 7
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x00000080
S_IDS = 0o6000
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def unit(path):
    found = {}
    for line in open(path, encoding="utf-8"):
        match = re.match(r"([A-Za-z]+)=(.*)", line.strip())
        if match:
            found.setdefault(match.group(1), []).append(match.group(2))
    return found


def calls(words):
    """Names of a list with groups in it."""
    names = set()
    for word in words:
        if not word.startswith("@"):
            names.add(word)
            continue
        text = subprocess.run(["systemd-analyze", "syscall-filter", word], check=True, capture_output=True, text=True).stdout
        lines = [line.strip() for line in text.splitlines()[1:]]
        names |= calls([line for line in lines if line and not line.startswith("#")])
    return names


class Filter:
    def __init__(self, default):
        self.lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.lib.seccomp_init.argtypes = [ctypes.c_uint32]
        self.lib.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)]
        self.lib.seccomp_load.argtypes = [ctypes.c_void_p]
        self.context = self.lib.seccomp_init(default)
        assert self.context, "seccomp_init"

    def rule(self, action, name, *compare):
        number = self.lib.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # not one of this machine
        array = (Compare * len(compare))(*[Compare(*one) for one in compare])
        error = self.lib.seccomp_rule_add_array(self.context, action, number, len(compare), array)
        assert error == 0, f"{name}: {error}"

    def load(self):
        error = self.lib.seccomp_load(self.context)
        assert error == 0, f"seccomp_load: {error}"


def yes(found, key):
    return found.get(key, ["no"])[-1] in ("yes", "true", "1")


def confine(found):
    lists = found.get("SystemCallFilter", [])
    assert lists and not lists[0].startswith("~"), "SystemCallFilter= must begin with what is allowed"
    # only errors are imitated: a kill would need another action
    assert found.get("SystemCallErrorNumber") == ["EPERM"], "SystemCallErrorNumber="
    allowed = calls(["@default"])
    for words in lists:
        if words.startswith("~"):
            allowed -= calls(words[1:].split())
        else:
            allowed |= calls(words.split())
    everything = Filter(ERRNO | errno.EPERM)
    for name in sorted(allowed):
        everything.rule(SCMP_ACT_ALLOW, name)
    filters = [everything]

    deny = Filter(SCMP_ACT_ALLOW)
    if yes(found, "MemoryDenyWriteExecute"):
        both = PROT_WRITE | PROT_EXEC
        deny.rule(ERRNO | errno.EPERM, "mmap", (2, MASKED_EQ, both, both))
        deny.rule(ERRNO | errno.EPERM, "mprotect", (2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
        deny.rule(ERRNO | errno.EPERM, "pkey_mprotect", (2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
        deny.rule(ERRNO | errno.EPERM, "shmat", (2, MASKED_EQ, SHM_EXEC, SHM_EXEC))
    if yes(found, "RestrictNamespaces"):
        deny.rule(ERRNO | errno.ENOSYS, "clone3")
        for flag in (1 << bit for bit in range(32) if NAMESPACES >> bit & 1):
            if flag != 0x80:  # of clone it is a part of the signal
                deny.rule(ERRNO | errno.EPERM, "clone", (0, MASKED_EQ, flag, flag))
            deny.rule(ERRNO | errno.EPERM, "unshare", (0, MASKED_EQ, flag, flag))
        deny.rule(ERRNO | errno.EPERM, "setns")
    if yes(found, "RestrictRealtime"):
        for policy in (1, 2, 6):
            deny.rule(ERRNO | errno.EPERM, "sched_setscheduler", (1, EQ, policy, 0))
    if yes(found, "RestrictSUIDSGID"):
        for name, arg in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("open", 2), ("openat", 3)):
            for bit in (0o4000, 0o2000):
                deny.rule(ERRNO | errno.EPERM, name, (arg, MASKED_EQ, bit, bit))
        deny.rule(ERRNO | errno.ENOSYS, "openat2")
    if yes(found, "LockPersonality"):
        deny.rule(ERRNO | errno.EPERM, "personality", (0, NE, 0, 0))
    if "RestrictAddressFamilies" in found:
        numbers = {FAMILIES[name] for name in found["RestrictAddressFamilies"][-1].split()}
        for number in range(46):
            if number not in numbers:
                deny.rule(ERRNO | errno.EAFNOSUPPORT, "socket", (0, EQ, number, 0))
    filters.append(deny)
    return filters


def main():
    at = sys.argv.index("--")
    options, command = sys.argv[1:at], sys.argv[at + 1:]
    found = unit(options[0])
    assert platform.machine() == "x86_64", "the numbers of flags are those of x86_64"
    libc = ctypes.CDLL(None, use_errno=True)
    filters = confine(found)
    if os.geteuid() == 0:
        if found.get("CapabilityBoundingSet") == [""]:
            for capability in range(64):
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        if "--user" in options:
            number = int(options[options.index("--user") + 1])
            os.setgroups([])
            os.setgid(number)
            os.setuid(number)
    os.umask(int(found.get("UMask", ["0022"])[-1], 8))
    assert yes(found, "NoNewPrivileges"), "NoNewPrivileges="
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    # the one that forbids loading another comes last
    for one in reversed(filters):
        one.load()
    os.execvp(command[0], command)


main()
