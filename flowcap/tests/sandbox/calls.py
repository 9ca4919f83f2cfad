"""System calls under a seccomp filter, and without it.

`calls.py ROLE` reads filters from standard input, a line `code jt jf k` for each instruction and an empty line after
each filter, and makes every call twice, in a process of its own. `calls.py without-landlock PROGRAM...` runs a program
on what looks like a kernel without Landlock. Numbers are those of x86_64.
"""
import ctypes
import errno
import os
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
EPERM, ENOSYS, EOPNOTSUPP = errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP
SECCOMP, LANDLOCK_CREATE_RULESET = 317, 444
PATH = ctypes.create_string_buffer(b"/")
ROOM = ctypes.create_string_buffer(4096)

# name, number, arguments, expected
CALLS = [
    ("execve", 59, [0, 0, 0], EPERM),
    ("execveat", 322, [-1, 0, 0, 0, 0], EPERM),
    ("fork", 57, [], EPERM),
    ("vfork by clone", 56, [0x4111, 0, 0, 0, 0], EPERM),
    ("clone of a user namespace", 56, [0x10000000 | 17, 0, 0, 0, 0], EPERM),
    ("clone3", 435, [0, 0], ENOSYS),
    ("unshare of a user namespace", 272, [0x10000000], EPERM),
    ("unshare of a network namespace", 272, [0x40000000], EPERM),
    ("setns", 308, [-1, 0], EPERM),
    ("ptrace", 101, [0, 0, 0, 0], EPERM),
    ("process_vm_readv", 310, [os.getpid(), 0, 0, 0, 0, 0], EPERM),
    ("process_vm_writev", 311, [os.getpid(), 0, 0, 0, 0, 0], EPERM),
    ("pidfd_open", 434, [os.getpid(), 0], EPERM),
    ("pidfd_getfd", 438, [-1, 0, 0], EPERM),
    ("pidfd_send_signal", 424, [-1, 0, 0, 0], EPERM),
    ("process_madvise", 440, [-1, 0, 0, 0, 0], EPERM),
    ("kill", 62, [os.getpid(), 0], EPERM),
    ("tgkill of another", 234, [1, 1, 0], EPERM),
    ("open_by_handle_at", 304, [-1, 0, 0], EPERM),
    ("name_to_handle_at", 303, [-100, PATH, 0, 0, 0], EPERM),
    ("mount", 165, [0, 0, 0, 0, 0], EPERM),
    ("umount2", 166, [0, 0], EPERM),
    ("open_tree", 428, [-100, 0, 0], EPERM),
    ("move_mount", 429, [-1, 0, -1, 0, 0], EPERM),
    ("fsopen", 430, [0, 0], EPERM),
    ("pivot_root", 155, [0, 0], EPERM),
    ("chroot", 161, [PATH], EPERM),
    ("io_uring_setup", 425, [1, 0], EPERM),
    ("bpf", 321, [0, 0, 0], EPERM),
    ("userfaultfd", 323, [-1], EPERM),
    ("perf_event_open", 298, [0, 0, -1, -1, 0], EPERM),
    ("kexec_load", 246, [0, 0, 0, 1 << 16], EPERM),
    ("init_module", 175, [0, 0, 0], EPERM),
    ("finit_module", 313, [-1, 0, 0], EPERM),
    ("add_key", 248, [0, 0, 0, 0, 0], EPERM),
    ("keyctl", 250, [99, 0, 0, 0, 0], EPERM),
    ("personality", 135, [0xFFFFFFFF], EPERM),
    ("setuid", 105, [os.getuid()], EPERM),
    ("setresuid", 117, [-1, -1, -1], EPERM),
    ("setgroups", 116, [-1, 0], EPERM),
    ("capset", 126, [0, 0], EPERM),
    ("prctl of core dumps", 157, [4, 1, 0, 0, 0], EPERM),
    ("prctl of capabilities", 157, [47, 4, 0, 0, 0], EPERM),
    ("seccomp", SECCOMP, [1, 0, 0], EPERM),
    ("prlimit of limits", 302, [0, 4, ROOM, 0], EPERM),
    ("mmap of code", 9, [0, 4096, 7, 0x22, -1, 0], EPERM),
    ("mprotect of code", 10, [0, 0, 4], EPERM),
    ("memfd_create", 319, [PATH, 0], EPERM),
    ("ioctl that types", 16, [-1, 0x5412, 0], EPERM),
    ("ioctl that sets an address", 16, [-1, 0x8916, 0], EPERM),
    ("chmod", 90, [0, 0], EPERM),
    ("fchmodat", 268, [-100, 0, 0], EPERM),
    ("chown", 92, [0, 0, 0], EPERM),
    ("setxattr", 188, [0, 0, 0, 0, 0], EPERM),
    ("symlink", 88, [0, 0], EPERM),
    ("link", 86, [0, 0], EPERM),
    ("mknod", 133, [0, 0o10600, 0], EPERM),
    ("chdir", 80, [PATH], EPERM),
    ("acct", 163, [1], EPERM),
    ("swapon", 167, [0, 0], EPERM),
    ("reboot", 169, [0, 0, 0, 0], EPERM),
    ("sethostname", 170, [0, -1], EPERM),
    ("settimeofday", 164, [1, 0], EPERM),
    ("iopl", 172, [4], EPERM),
    ("quotactl", 179, [0, 0, 0, 0], EPERM),
    ("fanotify_init", 300, [-1, 0], EPERM),
    ("sendmsg", 46, [-1, 0, 0], EPERM),
    ("connect", 42, [-1, 0, 0], EPERM),
    ("listen", 50, [-1, 0], EPERM),
    ("accept4", 288, [-1, 0, 0, 0], EPERM),
    ("UDP", 41, [2, 2, 0], EPERM),
    ("UDP in IPv6", 41, [10, 2, 0], EPERM),
    ("TCP", 41, [2, 1, 0], EPERM),
    ("raw ICMP", 41, [2, 3, 1], EPERM),
    ("unix", 41, [1, 1, 0], EPERM),
    ("vsock", 41, [40, 1, 0], EPERM),
    ("alg", 41, [38, 5, 0], EPERM),
    ("netlink of firewalls", 41, [16, 3, 12], EPERM),
    ("x32", 0x40000000 + 39, [], EPERM),
]
# What only the role that looks into all processes may not do: the others, where Landlock allows.
WRITING = [
    ("openat to write", 257, [-100, PATH, 1, 0], EPERM),
    ("openat to read and write", 257, [-100, PATH, 2, 0], EPERM),
    ("openat to create", 257, [-100, PATH, 0o100, 0], EPERM),
    ("openat to create none by name", 257, [-100, PATH, 0o20200002, 0], EPERM),
    ("openat to empty", 257, [-100, PATH, 0o1000, 0], EPERM),
    ("open to write", 2, [PATH, 1, 0], EPERM),
    ("openat2", 437, [-100, PATH, ROOM, 24], EPERM),
    ("creat", 85, [0, 0], EPERM),
    ("truncate", 76, [0, 0], EPERM),
    ("ftruncate", 77, [-1, 0], EPERM),
    ("pwrite64", 18, [-1, PATH, 1, 0], EPERM),
    ("pwritev", 296, [-1, 0, 0, 0, 0], EPERM),
    ("mkdirat", 258, [-100, 0, 0], EPERM),
    ("unlinkat", 263, [-100, 0, 0], EPERM),
    ("renameat2", 316, [-100, 0, -100, 0, 0], EPERM),
    ("utimensat", 280, [-1, 0, 0, 0], EPERM),
]
NETLINK = {"generic": 16, "routes": 0, "sockets": 4, "rdma": 20}
SOCKETS = {
    "Replay": {"packets": EPERM, "generic": EPERM, "routes": EPERM, "sockets": EPERM, "rdma": EPERM},
    "Capture": {"packets": 0, "generic": 0, "routes": EPERM, "sockets": EPERM, "rdma": EPERM},
    "Lookups": {"packets": 0, "generic": 0, "routes": 0, "sockets": 0, "rdma": 0},
    "Shipper": {"packets": EPERM, "generic": EPERM, "routes": 0, "sockets": EPERM, "rdma": EPERM},
    "LocalShipper": {"packets": EPERM, "generic": EPERM, "routes": EPERM, "sockets": EPERM, "rdma": EPERM},
}
# What a role may do that others may not, and why that is no way out.
EXCEPTIONS = {
    # Netlink sockets are connected to the kernel, and no others can be opened. A pidfd is good for nothing without the
    # calls above that take one.
    "Lookups": ["connect", "pidfd_open"],
    # Sockets that listen can only be those of before.
    "Capture": ["accept4"],
    # To where Landlock lets it.
    "Shipper": ["connect", "sendmsg", "UDP", "UDP in IPv6", "TCP"],
    # With sockets that are connected, in the file system.
    "LocalShipper": ["connect", "sendmsg", "unix"],
}


def install(filters):
    LIBC.prctl(38, 1, 0, 0, 0)
    for program in filters:
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *op) for op in program))
        fprog = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
        if LIBC.syscall(SECCOMP, 1, 0, ctypes.create_string_buffer(fprog)) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")


def outcome(number, arguments, filters):
    """Returns the errno of a call, 0 for success."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        install(filters)
        ctypes.set_errno(0)
        plain = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
        result = LIBC.syscall(ctypes.c_long(number), *plain)
        os.write(writer, bytes([ctypes.get_errno() if result == -1 else 0]))
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 1)
    os.close(reader)
    os.waitpid(child, 0)
    return said[0] if said else None


def main():
    role, blocks = sys.argv[1], sys.stdin.read().strip().split("\n\n")
    filters = [[tuple(map(int, line.split())) for line in block.splitlines()] for block in blocks]
    wrong = []
    for name, number, arguments, expected in CALLS + (WRITING if role == "Lookups" else []):
        if name in EXCEPTIONS.get(role, []):
            continue
        got, free = outcome(number, arguments, filters), outcome(number, arguments, [])
        if got != expected:
            wrong.append(f"{name}: {got}, not {expected}")
        # As root nothing else would say EPERM.
        if os.getuid() == 0 and free == expected and name not in ("clone3", "x32"):
            wrong.append(f"{name}: refused without the filter, too")
    for name, expected in SOCKETS[role].items():
        arguments = [17, 3, 0] if name == "packets" else [16, 3, NETLINK[name]]
        # Not every kernel knows each kind; without the filter it says the same.
        got, free = outcome(41, arguments, filters), outcome(41, arguments, [])
        if got != (expected or free) and not (got == EPERM and os.getuid() != 0):
            wrong.append(f"socket {name}: {got}, not {expected}")
    print("\n".join(wrong) if wrong else "all as expected")
    sys.exit(1 if wrong else 0)


def without_landlock(program):
    refuse = [(0x20, 0, 0, 0), (0x15, 0, 1, LANDLOCK_CREATE_RULESET), (0x06, 0, 0, 0x50000 | EOPNOTSUPP), (0x06, 0, 0, 0x7FFF0000)]
    install([refuse])
    os.execv(program[0], program)


if sys.argv[1] == "without-landlock":
    without_landlock(sys.argv[2:])
main()
