// Prints the system calls of whatever runs under it, a line each, and passes them on as they came:
//
//     [2] write(1, "hello\n", 6) = 6
//
//     lind-wasm strace-c-grate.cwasm PROGRAM ARGS...

#include <lind_syscall.h>
#include <stdio.h>
#include <string.h>

// The calls: number, name, and a letter for each argument. d, h: a number. f: a descriptor. x: an
// address or flags. s: a string. b: bytes, as many as the next argument says.
#define CALLS(X)                                                                                   \
    X(0, read, "fxd")                                                                              \
    X(1, write, "fbd")                                                                             \
    X(2, open, "shh")                                                                              \
    X(3, close, "f")                                                                               \
    X(4, stat, "sx")                                                                               \
    X(5, fstat, "fx")                                                                              \
    X(8, lseek, "fdd")                                                                             \
    X(9, mmap, "xdxxfd")                                                                           \
    X(12, brk, "x")                                                                                \
    X(16, ioctl, "fxx")                                                                            \
    X(17, pread64, "fxdd")                                                                         \
    X(18, pwrite64, "fbdd")                                                                        \
    X(19, readv, "fxd")                                                                            \
    X(20, writev, "fxd")                                                                           \
    X(21, access, "sx")                                                                            \
    X(32, dup, "f")                                                                                \
    X(33, dup2, "ff")                                                                              \
    X(39, getpid, "")                                                                              \
    X(41, socket, "ddd")                                                                           \
    X(42, connect, "fxd")                                                                          \
    X(44, sendto, "fbdxxd")                                                                        \
    X(45, recvfrom, "fxdxxx")                                                                      \
    X(49, bind, "fxd")                                                                             \
    X(50, listen, "fd")                                                                            \
    X(56, clone, "x")                                                                              \
    X(59, execve, "sxx")                                                                           \
    X(61, wait4, "dxx")                                                                            \
    X(62, kill, "dd")                                                                              \
    X(72, fcntl, "fdx")                                                                            \
    X(77, ftruncate, "fd")                                                                         \
    X(79, getcwd, "xd")                                                                            \
    X(80, chdir, "s")                                                                              \
    X(82, rename, "ss")                                                                            \
    X(83, mkdir, "sh")                                                                             \
    X(87, unlink, "s")                                                                             \
    X(107, geteuid, "")                                                                            \
    X(231, exit_group, "d")                                                                        \
    X(257, openat, "fshh")                                                                         \
    X(263, unlinkat, "fsh")                                                                        \
    X(288, accept4, "fxxh")                                                                        \
    X(293, pipe2, "xh")

enum { SHOWN = 32, LINE = 1024 };

// Handlers of one grate run at the same time, each on a stack of its own: a line is put together
// there and printed at once.
struct line {
    char text[LINE];
    int len;
};

#define ADD(line, ...)                                                                             \
    do {                                                                                           \
        int added = snprintf((line)->text + (line)->len, LINE - (size_t)(line)->len, __VA_ARGS__); \
        (line)->len = added < LINE - (line)->len ? (line)->len + added : LINE - 1;                 \
    } while (0)

// What is at an address of another cage, the first bytes of it.
static void quote(struct line *line, uint64_t address, uint64_t cage, uint64_t len, int type) {
    char copy[SHOWN + 1] = "";
    uint64_t own = lind_get_cage_id();
    uint64_t taken = len < SHOWN ? len : SHOWN;
    uint64_t to = (uint64_t)(uintptr_t)copy;
    // A string that is longer than what is shown is taken for bytes.
    if (cp_data(own, own, address, cage, to, own, taken, (uint64_t)type) < 0 &&
        (type == 0 || cp_data(own, own, address, cage, to, own, taken, 0) < 0)) {
        ADD(line, "%#llx", address);
        return;
    }
    if (type == 1)
        taken = strlen(copy);
    ADD(line, "\"");
    for (uint64_t i = 0; i < taken; i++) {
        unsigned char byte = (unsigned char)copy[i];
        if (byte == '\n')
            ADD(line, "\\n");
        else
            ADD(line, byte < ' ' || byte > '~' || byte == '"' ? "\\x%02x" : "%c", byte);
    }
    ADD(line, len > SHOWN && taken == SHOWN ? "\"..." : "\"");
}

static int trace(unsigned nr, const char *name, const char *kinds, const uint64_t a[12]) {
    struct line line = {.len = 0};
    // The cage that calls is that of a number, or of the argument behind the last: an address may be
    // another's, and so may the descriptor of a folder.
    uint64_t caller = a[2 * strcspn(kinds, "dh") + 1];
    ADD(&line, "[%llu] %s(", caller, name);
    for (size_t i = 0; kinds[i]; i++) {
        uint64_t value = a[2 * i], cage = a[2 * i + 1];
        ADD(&line, i ? ", " : "");
        if (kinds[i] == 's')
            quote(&line, value, cage, 4096, 1);
        else if (kinds[i] == 'b')
            quote(&line, value, cage, a[2 * i + 2], 0);
        else
            ADD(&line, strchr("df", kinds[i]) ? "%lld" : "%#llx", value);
    }
    uint64_t own = lind_get_cage_id();
    if (nr == 231)
        fprintf(stderr, "%s) = ?\n", line.text);
    int result = make_threei_call(nr, 0, own, caller, a[0], a[1], a[2], a[3], a[4], a[5], a[6],
                                  a[7], a[8], a[9], a[10], a[11], 0);
    if (nr != 231)
        fprintf(stderr, "%s) = %d\n", line.text, result);
    return result;
}

#define HANDLER(nr, name, kinds)                                                                   \
    static int on_##name(uint64_t grate, uint64_t a1, uint64_t c1, uint64_t a2, uint64_t c2,       \
                         uint64_t a3, uint64_t c3, uint64_t a4, uint64_t c4, uint64_t a5,          \
                         uint64_t c5, uint64_t a6, uint64_t c6) {                                  \
        const uint64_t all[12] = {a1, c1, a2, c2, a3, c3, a4, c4, a5, c5, a6, c6};                 \
        return trace(nr, #name, kinds, all);                                                       \
    }
CALLS(HANDLER)

#define REGISTER(nr, name, kinds) register_handler(child, nr, grate, (uint64_t)(uintptr_t)&on_##name);

int main(int argc, char *argv[]) {
    if (argc < 2)
        return fprintf(stderr, "usage: strace-c-grate PROGRAM ARGS...\n"), 64;
    uint64_t grate = lind_get_cage_id();
    if (fork() == 0) {
        pid_t child = getpid();
        CALLS(REGISTER)
        execv(argv[1], &argv[1]);
        perror(argv[1]);
        _exit(1);
    }
    int status = 1 << 8;
    wait(&status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
