// Turns the letters of what programs write into files by 13 places, and back when they read it: the
// smallest transform of data. Terminals, pipes and sockets are left as they are.
//
//     lind-wasm rot13-c-grate.cwasm PROGRAM ARGS...

#include <lind_syscall.h>
#include <stdbool.h>
#include <stdio.h>

enum { READ = 0, WRITE = 1, FSTAT = 5, PREAD = 17, PWRITE = 18, READV = 19, WRITEV = 20, FCNTL = 72 };

// Most bytes that a call moves here: a program asks again for the rest, as of any short call.
enum { ROOM = 16384 };

#define ARGUMENTS                                                                                  \
    uint64_t grate, uint64_t a1, uint64_t c1, uint64_t a2, uint64_t c2, uint64_t a3, uint64_t c3,  \
        uint64_t a4, uint64_t c4, uint64_t a5, uint64_t c5, uint64_t a6, uint64_t c6
#define FORWARD(nr, buffer, owner, len)                                                            \
    make_threei_call(nr, 0, grate, c1, a1, c1, buffer, owner, len, c3, a4, c4, a5, c5, a6, c6, 0)

// A letter is turned by 13 of 26 places: once more turns it back.
static void turn(char *bytes, int len) {
    for (int i = 0; i < len; i++) {
        char lower = bytes[i] | 32;
        if (lower >= 'a' && lower <= 'm')
            bytes[i] += 13;
        else if (lower >= 'n' && lower <= 'z')
            bytes[i] -= 13;
    }
}

// Whether a descriptor of a cage is a file's. What can't be asked goes on as it came.
static bool is_file(uint64_t grate, uint64_t fd, uint64_t cage) {
    struct {
        uint64_t dev, ino;
        uint32_t mode, rest[21];
    } stat;
    return make_threei_call(FSTAT, 0, grate, cage, fd, cage, (uintptr_t)&stat,
                            grate | GRATE_MEMORY_FLAG, 0, cage, 0, cage, 0, cage, 0, cage, 0) == 0 &&
           (stat.mode & 0170000) == 0100000;
}

static bool take(uint64_t grate, void *to, uint64_t from, uint64_t cage, uint64_t len) {
    return cp_data(grate, grate, from, cage, (uintptr_t)to, grate, len, 0) == 0;
}

static bool give(uint64_t grate, const void *from, uint64_t to, uint64_t cage, uint64_t len) {
    return len == 0 || cp_data(grate, grate, (uintptr_t)from, grate, to, cage, len, 0) == 0;
}

// write and pwrite: the bytes are copied once, turned, and passed on from here.
static int written(unsigned nr, ARGUMENTS) {
    char bytes[ROOM];
    uint64_t len = a3 < ROOM ? a3 : ROOM;
    if (len == 0 || !is_file(grate, a1, c1))
        return FORWARD(nr, a2, c2, a3);
    if (!take(grate, bytes, a2, c2, len))
        return -14; // EFAULT
    turn(bytes, (int)len);
    return FORWARD(nr, (uintptr_t)bytes, grate | GRATE_MEMORY_FLAG, len);
}

// read and pread: the other way round.
static int was_read(unsigned nr, ARGUMENTS) {
    char bytes[ROOM];
    uint64_t len = a3 < ROOM ? a3 : ROOM;
    if (len == 0 || !is_file(grate, a1, c1))
        return FORWARD(nr, a2, c2, a3);
    int got = FORWARD(nr, (uintptr_t)bytes, grate | GRATE_MEMORY_FLAG, len);
    if (got > 0) {
        turn(bytes, got);
        if (!give(grate, bytes, a2, c2, (uint64_t)got))
            return -14;
    }
    return got;
}

// readv and writev: a vector after the other, up to one that comes out short.
struct vector {
    uint64_t base, len;
};

static int vectored(unsigned nr, unsigned single, ARGUMENTS) {
    if (a3 > 1024 || !is_file(grate, a1, c1))
        return FORWARD(nr, a2, c2, a3);
    int (*one)(unsigned, ARGUMENTS) = single == WRITE ? written : was_read;
    int total = 0;
    for (uint64_t i = 0; i < a3; i++) {
        struct vector vector;
        if (!take(grate, &vector, a2 + i * sizeof vector, c2, sizeof vector))
            return total ? total : -14;
        uint64_t len = vector.len & 0xffffffff;
        int moved = one(single, grate, a1, c1, vector.base, c2, len, c3, a4, c4, a5, c5, a6, c6);
        if (moved < 0)
            return total ? total : moved;
        total += moved;
        if ((uint64_t)moved < len)
            break;
    }
    return total;
}

#define ALL grate, a1, c1, a2, c2, a3, c3, a4, c4, a5, c5, a6, c6
static int on_write(ARGUMENTS) { return written(WRITE, ALL); }
static int on_pwrite(ARGUMENTS) { return written(PWRITE, ALL); }
static int on_read(ARGUMENTS) { return was_read(READ, ALL); }
static int on_pread(ARGUMENTS) { return was_read(PREAD, ALL); }
static int on_writev(ARGUMENTS) { return vectored(WRITEV, WRITE, ALL); }
static int on_readv(ARGUMENTS) { return vectored(READV, READ, ALL); }

static const struct {
    uint64_t nr;
    lind_handler *handler;
} handlers[] = {{READ, on_read},   {WRITE, on_write},   {PREAD, on_pread},         {PWRITE, on_pwrite},
                {READV, on_readv}, {WRITEV, on_writev}, {FCNTL, lind_changes_data}};

int main(int argc, char *argv[]) {
    if (argc < 2)
        return fprintf(stderr, "usage: rot13-c-grate PROGRAM ARGS...\n"), 64;
    uint64_t grate = lind_get_cage_id();
    if (fork() == 0) {
        for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++)
            register_handler(getpid(), handlers[i].nr, grate, (uintptr_t)handlers[i].handler);
        execv(argv[1], &argv[1]);
        perror(argv[1]);
        _exit(1);
    }
    int status = 1 << 8;
    wait(&status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
