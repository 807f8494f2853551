// The functions of WASI preview 1 that a program imports, over Lind calls. What the libc imports
// resolves to these; `cargo xtask adapt` puts them into finished modules. A descriptor of WASI is
// one of the kernel's. Arguments, environment and random bytes are left: Lind has them itself.

#include "lind.h"

#include <string.h>

#define WASI(name) __imported_wasi_snapshot_preview1_##name

enum {
    SUCCESS = 0,
    E_BADF = 8,
    E_INVAL = 28,
    E_NAMETOOLONG = 37,
    E_NOTSUP = 58,
};

enum { KIND_UNKNOWN, KIND_BLOCK, KIND_CHAR, KIND_DIRECTORY, KIND_FILE, KIND_DGRAM, KIND_STREAM, KIND_LINK };

// The libc's AT_FDCWD and Linux's.
enum { LIBC_CWD = -2, LINUX_CWD = -100 };

// WASI's number for the outcome of a call.
static int failed(int32_t result) {
    if (!is_error(result))
        return SUCCESS;
    // The libc stores it in its own variable, which is not every thread's.
    __lind_answer(result);
    return __lind_wasi_errno(-result);
}

static int stored(int32_t result, uint32_t *out) {
    if (!is_error(result))
        *out = (uint32_t)result;
    return failed(result);
}

int WASI(clock_res_get)(int32_t clock, uint64_t *out) {
    if (clock < 0 || clock > 3)
        return E_INVAL;
    *out = 1;
    return SUCCESS;
}

int WASI(clock_time_get)(int32_t clock, uint64_t precision, uint64_t *out) {
    (void)precision;
    struct kernel_time time;
    int32_t result = lind(NR_CLOCK_GETTIME, num(clock), at(&time));
    if (!is_error(result))
        *out = (uint64_t)time.seconds * 1000000000u + (uint64_t)time.nanoseconds;
    return failed(result);
}

int WASI(sched_yield)(void) { return failed(lind(NR_SCHED_YIELD)); }

_Noreturn void WASI(proc_exit)(int32_t code) { __lind_exit(code); }

// ---- descriptors

struct wasi_vector {
    uint32_t base, len;
};

// Most vectors that are passed in one call; what is left over makes the call a short one.
enum { VECTORS = 64 };

static int vectored(uint32_t nr, int fd, const struct wasi_vector *vectors, uint32_t count,
                    uint64_t offset, uint32_t *out) {
    struct kernel_vector kernel[VECTORS];
    if (count > VECTORS)
        count = VECTORS;
    for (uint32_t i = 0; i < count; i++) {
        kernel[i].base = at((void *)(uintptr_t)vectors[i].base);
        kernel[i].len = vectors[i].len;
    }
    return stored(lind(nr, num(fd), at(kernel), count, offset), out);
}

int WASI(fd_read)(int32_t fd, const struct wasi_vector *vectors, uint32_t count, uint32_t *out) {
    return vectored(NR_READV, fd, vectors, count, UNUSED, out);
}

int WASI(fd_write)(int32_t fd, const struct wasi_vector *vectors, uint32_t count, uint32_t *out) {
    return vectored(NR_WRITEV, fd, vectors, count, UNUSED, out);
}

int WASI(fd_pread)(int32_t fd, const struct wasi_vector *vectors, uint32_t count, uint64_t offset,
                   uint32_t *out) {
    return vectored(NR_PREADV, fd, vectors, count, offset, out);
}

int WASI(fd_pwrite)(int32_t fd, const struct wasi_vector *vectors, uint32_t count, uint64_t offset,
                    uint32_t *out) {
    return vectored(NR_PWRITEV, fd, vectors, count, offset, out);
}

int WASI(fd_close)(int32_t fd) { return failed(lind(NR_CLOSE, num(fd))); }
int WASI(fd_sync)(int32_t fd) { return failed(lind(NR_FSYNC, num(fd))); }
int WASI(fd_datasync)(int32_t fd) { return failed(lind(NR_FDATASYNC, num(fd))); }

int WASI(fd_seek)(int32_t fd, int64_t offset, int32_t whence, uint64_t *out) {
    return failed(__lind_seek(fd, offset, whence, out));
}

int WASI(fd_tell)(int32_t fd, uint64_t *out) {
    enum { SEEK_CURRENT = 1 };
    return failed(__lind_seek(fd, 0, SEEK_CURRENT, out));
}

// Advice is taken, and nothing done about it.
int WASI(fd_advise)(int32_t fd, uint64_t offset, uint64_t len, int32_t advice) {
    (void)offset, (void)len, (void)advice;
    struct kernel_stat stat;
    return failed(lind(NR_FSTAT, num(fd), at(&stat)));
}

// Lind has no call that reserves room: the file becomes as long, and the room is taken when it is
// written to.
int WASI(fd_allocate)(int32_t fd, uint64_t offset, uint64_t len) {
    struct kernel_stat stat;
    uint64_t end;
    if (len == 0 || __builtin_add_overflow(offset, len, &end) || end > INT64_MAX)
        return E_INVAL;
    int32_t result = lind(NR_FSTAT, num(fd), at(&stat));
    if (!is_error(result) && end > stat.size)
        result = lind(NR_FTRUNCATE, num(fd), end);
    return failed(result);
}

int WASI(fd_renumber)(int32_t from, int32_t to) {
    int32_t result = lind(NR_DUP2, num(from), num(to));
    if (!is_error(result) && from != to)
        result = lind(NR_CLOSE, num(from));
    return failed(result);
}

static int kind_of(uint32_t mode) {
    switch (mode & 0170000) {
    case 0060000:
        return KIND_BLOCK;
    case 0020000:
        return KIND_CHAR;
    case 0040000:
        return KIND_DIRECTORY;
    case 0100000:
        return KIND_FILE;
    case 0120000:
        return KIND_LINK;
    case 0140000:
        return KIND_STREAM;
    default:
        return KIND_UNKNOWN;
    }
}

// Flags of a descriptor: WASI's, Linux's.
static const struct {
    uint16_t wasi;
    int linux_flag;
} descriptor_flags[] = {{1, 02000}, {2, 010000}, {4, 04000}, {8, 04010000}, {16, 04010000}};

static int linux_flags(int wasi) {
    int flags = 0;
    for (size_t i = 0; i < sizeof descriptor_flags / sizeof *descriptor_flags; i++)
        if (wasi & descriptor_flags[i].wasi)
            flags |= descriptor_flags[i].linux_flag;
    return flags;
}

struct wasi_fdstat {
    uint8_t kind;
    uint16_t flags;
    uint64_t rights, inheriting;
};

enum { F_GET = 3, F_SET = 4 };

int WASI(fd_fdstat_get)(int32_t fd, struct wasi_fdstat *out) {
    enum { TIOCGWINSZ = 0x5413 };
    const uint64_t seek_and_tell = 1 << 2 | 1 << 5;
    struct kernel_stat stat;
    int32_t result = lind(NR_FSTAT, num(fd), at(&stat));
    int32_t flags = is_error(result) ? result : lind(NR_FCNTL, num(fd), F_GET);
    if (is_error(flags))
        return failed(flags);
    *out = (struct wasi_fdstat){.kind = (uint8_t)kind_of(stat.mode), .rights = ~0ull, .inheriting = ~0ull};
    for (size_t i = 0; i < sizeof descriptor_flags / sizeof *descriptor_flags; i++)
        if ((flags & descriptor_flags[i].linux_flag) == descriptor_flags[i].linux_flag)
            out->flags |= descriptor_flags[i].wasi;
    // By this a program tells a terminal from other devices.
    uint16_t size[4];
    if (out->kind == KIND_CHAR && !is_error(lind(NR_IOCTL, num(fd), TIOCGWINSZ, at(size))))
        out->rights &= ~seek_and_tell;
    return SUCCESS;
}

int WASI(fd_fdstat_set_flags)(int32_t fd, int32_t flags) {
    return failed(lind(NR_FCNTL, num(fd), F_SET, num(linux_flags(flags))));
}

int WASI(fd_fdstat_set_rights)(int32_t fd, uint64_t rights, uint64_t inheriting) {
    (void)fd, (void)rights, (void)inheriting;
    return SUCCESS;
}

struct wasi_filestat {
    uint64_t dev, ino;
    uint8_t kind;
    uint64_t nlink, size, times[3];
};

static int stated(int32_t result, const struct kernel_stat *stat, struct wasi_filestat *out) {
    if (is_error(result))
        return failed(result);
    *out = (struct wasi_filestat){.dev = stat->dev,
                                  .ino = stat->ino,
                                  .kind = (uint8_t)kind_of(stat->mode),
                                  .nlink = stat->nlink,
                                  .size = stat->size};
    for (int i = 0; i < 3; i++)
        out->times[i] = (uint64_t)stat->times[i].seconds * 1000000000u +
                        (uint64_t)stat->times[i].nanoseconds;
    return SUCCESS;
}

int WASI(fd_filestat_get)(int32_t fd, struct wasi_filestat *out) {
    struct kernel_stat stat;
    return stated(lind(NR_FSTAT, num(fd), at(&stat)), &stat, out);
}

int WASI(fd_filestat_set_size)(int32_t fd, uint64_t size) {
    return failed(lind(NR_FTRUNCATE, num(fd), size));
}

// Access and change, as WASI's flags say: given, now, or left as they are.
static void times_of(uint64_t access, uint64_t change, int flags, struct kernel_time out[2]) {
    enum { NOW = 0x3fffffff, OMIT = 0x3ffffffe };
    const uint64_t given[2] = {access, change};
    for (int i = 0; i < 2; i++, flags >>= 2) {
        out[i].seconds = (int64_t)(given[i] / 1000000000u);
        out[i].nanoseconds = flags & 2   ? NOW
                             : flags & 1 ? (int64_t)(given[i] % 1000000000u)
                                         : OMIT;
    }
}

int WASI(fd_filestat_set_times)(int32_t fd, uint64_t access, uint64_t change, int32_t flags) {
    struct kernel_time times[2];
    times_of(access, change, flags, times);
    return failed(lind(NR_UTIMENSAT, num(fd), 0, at(times), 0));
}

// ---- directories

struct wasi_entry {
    uint64_t next, ino;
    uint32_t name_len;
    uint8_t kind;
};

// Where in a directory its descriptor stands, as far as that is known from here.
static uint64_t places[1024];

static uint64_t *place_of(int fd) {
    bool known = fd >= 0 && (size_t)fd < sizeof places / sizeof *places;
    return known ? &places[fd] : NULL;
}

// Appends what there is room for; answers how much that was.
static uint32_t append(uint8_t *to, uint32_t room, const void *from, uint32_t len) {
    uint32_t taken = len < room ? len : room;
    memcpy(to, from, taken);
    return taken;
}

int WASI(fd_readdir)(int32_t fd, uint8_t *out, uint32_t len, uint64_t cookie, uint32_t *used) {
    enum { SEEK_START = 0, NAME = 19, HEAD = 24 };
    static const uint8_t kinds[] = {[2] = KIND_CHAR, [4] = KIND_DIRECTORY, [6] = KIND_BLOCK,
                                    [8] = KIND_FILE, [10] = KIND_LINK,     [12] = KIND_STREAM};
    uint64_t *place = place_of(fd);
    if (!place || *place != cookie || cookie == 0) {
        uint64_t there;
        int32_t result = __lind_seek(fd, (int64_t)cookie, SEEK_START, &there);
        // A cookie can be larger than what Lind's call answers.
        if (is_error(result) && result != -75)
            return failed(result);
    }
    // An entry of the kernel's has at least three quarters of the length of WASI's: so all that is
    // read here has room there.
    union {
        uint64_t aligned;
        uint8_t bytes[3072];
    } kernel;
    uint32_t room = len / 4 * 3 < sizeof kernel.bytes ? len / 4 * 3 : sizeof kernel.bytes;
    int32_t got = lind(NR_GETDENTS64, num(fd), at(kernel.bytes), room & ~7u);
    if (is_error(got))
        return failed(got);
    uint32_t filled = 0;
    for (int32_t from = 0; from < got;) {
        const uint8_t *entry = kernel.bytes + from;
        uint16_t entry_len;
        uint64_t ino, next;
        memcpy(&ino, entry, 8);
        memcpy(&next, entry + 8, 8);
        memcpy(&entry_len, entry + 16, 2);
        uint8_t kind = entry[18];
        const char *name = (const char *)entry + NAME;
        uint32_t name_len = (uint32_t)strnlen(name, entry_len - NAME);
        struct wasi_entry head = {.next = next, .ino = ino, .name_len = name_len};
        head.kind = kind < sizeof kinds ? kinds[kind] : KIND_UNKNOWN;
        filled += append(out + filled, len - filled, &head, HEAD);
        filled += append(out + filled, len - filled, name, name_len);
        cookie = next;
        from += entry_len;
    }
    if (place)
        *place = cookie;
    // A buffer that is not full means that no more is to come: an entry that is cut fills it up.
    if (got > 0 && filled < len) {
        struct wasi_entry cut = {.next = cookie, .name_len = len};
        append(out + filled, len - filled, &cut, HEAD);
        filled = len;
    }
    *used = filled;
    return SUCCESS;
}

// ---- paths

enum { PATH_ROOM = 4096 };

// WASI's paths have a length instead of a NUL.
static int taken(const char *path, uint32_t len, char out[PATH_ROOM]) {
    if (len >= PATH_ROOM)
        return E_NAMETOOLONG;
    memcpy(out, path, len);
    out[len] = 0;
    return strlen(out) == len ? SUCCESS : E_INVAL;
}

static uint64_t directory(int fd) { return num(fd == LIBC_CWD ? LINUX_CWD : fd); }

#ifdef LIND_ADAPTER
// A finished module is handed directories by number, from 3 on: the root, opened at its start.
enum { ROOT = 3 };
static bool prepared;

static void prepare(void) {
    enum { O_DIRECTORY = 0200000 };
    if (prepared)
        return;
    prepared = true;
    int32_t fd = lind(NR_OPEN, at("/"), O_DIRECTORY, 0);
    if (fd >= 0 && fd != ROOT) {
        lind(NR_DUP2, num(fd), num(ROOT));
        lind(NR_CLOSE, num(fd));
    }
}

int WASI(fd_prestat_get)(int32_t fd, uint32_t *out) {
    prepare();
    if (fd != ROOT)
        return E_BADF;
    out[0] = 0;
    out[1] = 1;
    return SUCCESS;
}

int WASI(fd_prestat_dir_name)(int32_t fd, char *out, uint32_t len) {
    if (fd != ROOT)
        return E_BADF;
    if (len < 1)
        return E_NAMETOOLONG;
    *out = '/';
    return SUCCESS;
}

// Lind has no mkdirat and no linkat. Paths below the root do without.
static int absolute(int fd, char path[PATH_ROOM]) {
    if (fd != ROOT || path[0] == '/')
        return fd == ROOT || path[0] == '/' ? SUCCESS : E_NOTSUP;
    size_t len = strlen(path);
    if (len + 2 > PATH_ROOM)
        return E_NAMETOOLONG;
    memmove(path + 1, path, len + 1);
    path[0] = '/';
    return SUCCESS;
}
#else
int WASI(fd_prestat_get)(int32_t fd, uint32_t *out) {
    (void)fd, (void)out;
    return E_BADF;
}

int WASI(fd_prestat_dir_name)(int32_t fd, char *out, uint32_t len) {
    (void)fd, (void)out, (void)len;
    return E_BADF;
}

// Lind has no mkdirat and no linkat.
static int absolute(int fd, char path[PATH_ROOM]) {
    return fd == LIBC_CWD || path[0] == '/' ? SUCCESS : E_NOTSUP;
}
#endif

#define TAKE(name, pointer, len)                                                                   \
    char name[PATH_ROOM];                                                                          \
    do {                                                                                           \
        int error = taken(pointer, len, name);                                                     \
        if (error)                                                                                 \
            return error;                                                                          \
    } while (0)

int WASI(path_open)(int32_t fd, int32_t lookup, const char *path, uint32_t len, int32_t how,
                    uint64_t rights, uint64_t inheriting, int32_t flags, uint32_t *out) {
    enum { READ = 1 << 1, WRITE = 1 << 6, CREAT = 1, DIRECTORY = 2, EXCL = 4, TRUNC = 8 };
    enum { FOLLOW = 1, NOFOLLOW = 0400000 };
    (void)inheriting;
    TAKE(name, path, len);
    int open = linux_flags(flags);
    if (how & CREAT)
        open |= 0100;
    if (how & DIRECTORY)
        open |= 0200000;
    else if (rights & WRITE)
        open |= rights & READ ? 2 : 1;
    if (how & EXCL)
        open |= 0200;
    if (how & TRUNC)
        open |= 01000;
    if (!(lookup & FOLLOW))
        open |= NOFOLLOW;
    int32_t made = lind(NR_OPENAT, directory(fd), at(name), num(open), 0666);
    if (!is_error(made) && place_of(made))
        *place_of(made) = 0;
    return stored(made, out);
}

int WASI(path_create_directory)(int32_t fd, const char *path, uint32_t len) {
    TAKE(name, path, len);
    int error = absolute(fd, name);
    return error ? error : failed(lind(NR_MKDIR, at(name), 0777));
}

enum { AT_NOFOLLOW = 0x100, AT_REMOVE = 0x200, LOOKUP_FOLLOW = 1 };

int WASI(path_filestat_get)(int32_t fd, int32_t lookup, const char *path, uint32_t len,
                            struct wasi_filestat *out) {
    TAKE(name, path, len);
    struct kernel_stat stat;
    int flags = lookup & LOOKUP_FOLLOW ? 0 : AT_NOFOLLOW;
    int32_t result = lind(NR_NEWFSTATAT, directory(fd), at(name), at(&stat), num(flags));
    return stated(result, &stat, out);
}

int WASI(path_filestat_set_times)(int32_t fd, int32_t lookup, const char *path, uint32_t len,
                                  uint64_t access, uint64_t change, int32_t which) {
    TAKE(name, path, len);
    struct kernel_time times[2];
    times_of(access, change, which, times);
    int flags = lookup & LOOKUP_FOLLOW ? 0 : AT_NOFOLLOW;
    return failed(lind(NR_UTIMENSAT, directory(fd), at(name), at(times), num(flags)));
}

int WASI(path_link)(int32_t old_fd, int32_t lookup, const char *old, uint32_t old_len, int32_t fd,
                    const char *path, uint32_t len) {
    (void)lookup;
    TAKE(from, old, old_len);
    TAKE(to, path, len);
    int error = absolute(old_fd, from);
    if (!error)
        error = absolute(fd, to);
    return error ? error : failed(lind(NR_LINK, at(from), at(to)));
}

int WASI(path_readlink)(int32_t fd, const char *path, uint32_t len, char *out, uint32_t room,
                        uint32_t *used) {
    TAKE(name, path, len);
    return stored(lind(NR_READLINKAT, directory(fd), at(name), at(out), room), used);
}

int WASI(path_remove_directory)(int32_t fd, const char *path, uint32_t len) {
    TAKE(name, path, len);
    return failed(lind(NR_UNLINKAT, directory(fd), at(name), AT_REMOVE));
}

int WASI(path_rename)(int32_t old_fd, const char *old, uint32_t old_len, int32_t fd,
                      const char *path, uint32_t len) {
    TAKE(from, old, old_len);
    TAKE(to, path, len);
    return failed(lind(NR_RENAMEAT, directory(old_fd), at(from), directory(fd), at(to)));
}

int WASI(path_symlink)(const char *old, uint32_t old_len, int32_t fd, const char *path,
                       uint32_t len) {
    TAKE(target, old, old_len);
    TAKE(name, path, len);
    return failed(lind(NR_SYMLINKAT, at(target), directory(fd), at(name)));
}

int WASI(path_unlink_file)(int32_t fd, const char *path, uint32_t len) {
    TAKE(name, path, len);
    return failed(lind(NR_UNLINKAT, directory(fd), at(name), 0));
}

// ---- waiting

struct wasi_subscription {
    uint64_t user;
    uint8_t what;
    union {
        struct {
            uint32_t id;
            uint64_t timeout, precision;
            uint16_t flags;
        } clock;
        uint32_t fd;
    };
};

struct wasi_event {
    uint64_t user;
    uint16_t error;
    uint8_t what;
    uint64_t bytes;
    uint16_t flags;
};

enum { CLOCK, READABLE, WRITABLE };

struct kernel_poll {
    int32_t fd;
    int16_t events, seen;
};

enum { POLL_IN = 1, POLL_OUT = 4, POLL_HUP = 16, POLL_NVAL = 32, MONOTONIC = 1 };

static uint64_t now(uint32_t clock) {
    uint64_t time = 0;
    WASI(clock_time_get)((int32_t)clock, 0, &time);
    return time;
}

// When a subscription to a clock is over, by the monotonic clock.
static uint64_t end_of(const struct wasi_subscription *from) {
    uint64_t left = from->clock.timeout;
    if (from->clock.flags & 1) {
        uint64_t time = now(from->clock.id);
        left = left > time ? left - time : 0;
    }
    uint64_t time = now(MONOTONIC);
    return left > UINT64_MAX - time ? UINT64_MAX : time + left;
}

static int32_t sleep_until(uint64_t end) {
    enum { EINTR_ = 4 };
    for (uint64_t time; (time = now(MONOTONIC)) < end;) {
        uint64_t left = end - time;
        struct kernel_time wanted = {(int64_t)(left / 1000000000u), (int64_t)(left % 1000000000u)};
        int32_t result = lind(NR_CLOCK_NANOSLEEP, MONOTONIC, 0, at(&wanted), 0);
        if (is_error(result) && result != -EINTR_)
            return result;
    }
    return 0;
}

int WASI(poll_oneoff)(const struct wasi_subscription *from, struct wasi_event *out, uint32_t count,
                      uint32_t *used) {
    enum { MOST = 256 };
    struct kernel_poll polls[MOST];
    uint64_t ends[MOST];
    if (count == 0 || count > MOST)
        return E_INVAL;
    uint64_t end = UINT64_MAX;
    bool files = false;
    for (uint32_t i = 0; i < count; i++) {
        polls[i] = (struct kernel_poll){.fd = -1};
        if (from[i].what == CLOCK) {
            ends[i] = end_of(&from[i]);
            end = ends[i] < end ? ends[i] : end;
        } else {
            files = true;
            polls[i].fd = (int32_t)from[i].fd;
            polls[i].events = from[i].what == READABLE ? POLL_IN : POLL_OUT;
        }
    }
    // Lind's poll does not wait without a descriptor.
    int32_t result;
    if (files) {
        uint64_t time = now(MONOTONIC);
        uint64_t left = end > time ? (end - time + 999999) / 1000000 : 0;
        int timeout = end == UINT64_MAX ? -1 : left > INT32_MAX ? INT32_MAX : (int)left;
        result = lind(NR_POLL, at(polls), count, num(timeout));
    } else {
        result = sleep_until(end);
    }
    if (is_error(result))
        return failed(result);
    *used = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct wasi_event event = {.user = from[i].user, .what = from[i].what};
        if (from[i].what == CLOCK) {
            // None was ready: the clock that was waited for is over, and others may be.
            if (result > 0 || ends[i] > end)
                continue;
        } else {
            if (!polls[i].seen)
                continue;
            event.error = polls[i].seen & POLL_NVAL ? E_BADF : 0;
            event.flags = polls[i].seen & POLL_HUP ? 1 : 0;
            event.bytes = 1;
        }
        out[(*used)++] = event;
    }
    return SUCCESS;
}

// ---- sockets, as far as WASI has them

int WASI(sock_accept)(int32_t fd, int32_t flags, uint32_t *out) {
    return stored(lind(NR_ACCEPT4, num(fd), 0, 0, num(linux_flags(flags))), out);
}

int WASI(sock_recv)(int32_t fd, const struct wasi_vector *vectors, uint32_t count, int32_t flags,
                    uint32_t *got, uint16_t *seen) {
    enum { PEEK = 1, WAITALL = 2, LINUX_PEEK = 2, LINUX_WAITALL = 0x100 };
    *seen = 0;
    // One vector is what programs use; more of them make a short call.
    if (count == 0)
        return E_INVAL;
    int how = (flags & PEEK ? LINUX_PEEK : 0) | (flags & WAITALL ? LINUX_WAITALL : 0);
    uint64_t base = at((void *)(uintptr_t)vectors->base);
    return stored(lind(NR_RECVFROM, num(fd), base, vectors->len, num(how), 0, 0), got);
}

int WASI(sock_send)(int32_t fd, const struct wasi_vector *vectors, uint32_t count, int32_t flags,
                    uint32_t *sent) {
    (void)flags;
    if (count == 0)
        return E_INVAL;
    uint64_t base = at((void *)(uintptr_t)vectors->base);
    return stored(lind(NR_SENDTO, num(fd), base, vectors->len, 0, 0, 0), sent);
}

int WASI(sock_shutdown)(int32_t fd, int32_t how) {
    enum { READING = 1, WRITING = 2 };
    if (how < READING || how > (READING | WRITING))
        return E_INVAL;
    return failed(lind(NR_SHUTDOWN, num(fd), num(how - 1)));
}
