// Files, by descriptor and by path. The libc's own functions know neither of the modes of files nor
// of the kernel's working directory; these take their places.

#include "lind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utime.h>

#undef lseek

// What *at calls take for the working directory: the libc's own functions have another number.
static uint64_t directory(int fd) {
    enum { WASI_FDCWD = -2 };
    return num(fd == WASI_FDCWD ? AT_FDCWD : fd);
}

// ---- opening

static int opened(int dir, const char *path, int flags, mode_t mode) {
    if (dir == AT_FDCWD)
        return __lind_answer(lind(NR_OPEN, at(path), num(flags), mode));
    return __lind_answer(lind(NR_OPENAT, num(dir), at(path), num(flags), mode));
}

#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if ((flags) & O_CREAT) {                                                                       \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...) {
    MODE(flags)
    return opened(dir, path, flags, mode);
}

int creat(const char *path, mode_t mode) {
    return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

// ---- what the libc's own functions open files by, with WASI's numbers of flags

static const struct {
    int wasi, flag;
} wasi_flags[] = {
    {1, O_APPEND},       {2, O_DSYNC},         {4, O_NONBLOCK},    {16, O_SYNC},
    {1 << 12, O_CREAT},  {2 << 12, O_DIRECTORY}, {4 << 12, O_EXCL}, {8 << 12, O_TRUNC},
    {1 << 24, O_NOFOLLOW},
};
enum { WASI_FLAGS = sizeof wasi_flags / sizeof *wasi_flags };
enum { WASI_RDONLY = 1 << 26, WASI_WRONLY = 1 << 28, WASI_RDWR = WASI_RDONLY | WASI_WRONLY };

static int from_wasi(int wasi) {
    int flags = (wasi & WASI_RDWR) == WASI_RDWR ? O_RDWR : wasi & WASI_WRONLY ? O_WRONLY : O_RDONLY;
    for (int i = 0; i < WASI_FLAGS; i++)
        if (wasi & wasi_flags[i].wasi)
            flags |= wasi_flags[i].flag;
    return flags;
}

static int to_wasi(int flags) {
    static const int access[] = {WASI_RDONLY, WASI_WRONLY, WASI_RDWR, WASI_RDWR};
    int wasi = access[flags & O_ACCMODE];
    for (int i = 0; i < WASI_FLAGS; i++)
        if ((flags & wasi_flags[i].flag) == wasi_flags[i].flag)
            wasi |= wasi_flags[i].wasi;
    return wasi;
}

int wasi_open(const char *path, int flags, ...) __asm__("open");
int wasi_open(const char *path, int flags, ...) {
    return opened(AT_FDCWD, path, from_wasi(flags), 0666);
}

int __wasilibc_open_nomode(const char *path, int flags) {
    return opened(AT_FDCWD, path, from_wasi(flags), 0666);
}

int __wasilibc_nocwd_openat_nomode(int dir, const char *path, int flags) {
    return opened((int)directory(dir), path, from_wasi(flags), 0666);
}

int wasi_fcntl(int fd, int command, ...) __asm__("fcntl");
int wasi_fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    int argument = command == F_SETFL || command == F_SETFD ? va_arg(rest, int) : 0;
    va_end(rest);
    int result = fcntl(fd, command, command == F_SETFL ? from_wasi(argument) : argument);
    return command == F_GETFL && result >= 0 ? to_wasi(result) : result;
}

// By which the libc's own functions look through directories.
void *wasi_fdopendir(int) __asm__("fdopendir");
void *wasi_opendir(const char *path) __asm__("opendir");
void *wasi_opendir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *directory = wasi_fdopendir(fd);
    if (!directory)
        close(fd);
    return directory;
}

// ---- by descriptor

int close(int fd) { return __lind_answer(lind(NR_CLOSE, num(fd))); }

ssize_t read(int fd, void *to, size_t len) {
    return __lind_answer(lind(NR_READ, num(fd), at(to), len));
}

ssize_t write(int fd, const void *from, size_t len) {
    return __lind_answer(lind(NR_WRITE, num(fd), at(from), len));
}

ssize_t pread(int fd, void *to, size_t len, off_t offset) {
    return __lind_answer(lind(NR_PREAD, num(fd), at(to), len, (uint64_t)offset));
}

ssize_t pwrite(int fd, const void *from, size_t len, off_t offset) {
    return __lind_answer(lind(NR_PWRITE, num(fd), at(from), len, (uint64_t)offset));
}

// Most vectors that are passed in one call; what is left over makes the call a short one.
enum { VECTORS = 64 };

static ssize_t vectored(uint32_t nr, int fd, const struct iovec *vectors, int count,
                        uint64_t offset) {
    struct kernel_vector kernel[VECTORS];
    if (count > VECTORS)
        count = VECTORS;
    for (int i = 0; i < count; i++)
        kernel[i] = (struct kernel_vector){at(vectors[i].iov_base), vectors[i].iov_len};
    return __lind_answer(lind(nr, num(fd), at(kernel), num(count), offset));
}

ssize_t readv(int fd, const struct iovec *vectors, int count) {
    return vectored(NR_READV, fd, vectors, count, UNUSED);
}

ssize_t writev(int fd, const struct iovec *vectors, int count) {
    return vectored(NR_WRITEV, fd, vectors, count, UNUSED);
}

ssize_t preadv(int fd, const struct iovec *vectors, int count, off_t offset) {
    return vectored(NR_PREADV, fd, vectors, count, (uint64_t)offset);
}

ssize_t pwritev(int fd, const struct iovec *vectors, int count, off_t offset) {
    return vectored(NR_PWRITEV, fd, vectors, count, (uint64_t)offset);
}

off_t __lseek(int fd, off_t offset, int whence) {
    uint64_t place;
    int32_t result = __lind_seek(fd, offset, whence, &place);
    return is_error(result) ? __lind_answer(result) : (off_t)place;
}

off_t lseek(int fd, off_t offset, int whence) { return __lseek(fd, offset, whence); }
off_t __wasilibc_tell(int fd) { return __lseek(fd, 0, SEEK_CUR); }

int fsync(int fd) { return __lind_answer(lind(NR_FSYNC, num(fd))); }
int fdatasync(int fd) { return __lind_answer(lind(NR_FDATASYNC, num(fd))); }

int sync_file_range(int fd, off_t offset, off_t len, unsigned flags) {
    return __lind_answer(
        lind(NR_SYNC_FILE_RANGE, num(fd), (uint64_t)offset, (uint64_t)len, flags));
}

ssize_t copy_file_range(int from, off_t *from_place, int to, off_t *to_place, size_t len,
                        unsigned flags) {
    return __lind_answer(lind(NR_COPY_FILE_RANGE, num(from), at(from_place), num(to), at(to_place),
                              len, flags));
}

int ftruncate(int fd, off_t len) { return __lind_answer(lind(NR_FTRUNCATE, num(fd), (uint64_t)len)); }

// These answer the error.
int posix_fallocate(int fd, off_t offset, off_t len) {
    struct stat stat;
    off_t end;
    if (offset < 0 || len <= 0)
        return EINVAL;
    if (__builtin_add_overflow(offset, len, &end))
        return EFBIG;
    if (fstat(fd, &stat))
        return errno;
    // Lind has no call that reserves room: it is taken when it is written to.
    return end > stat.st_size && ftruncate(fd, end) ? errno : 0;
}

int posix_fadvise(int fd, off_t offset, off_t len, int advice) {
    (void)offset, (void)len, (void)advice;
    struct stat stat;
    return fstat(fd, &stat) ? errno : 0;
}

int flock(int fd, int operation) { return __lind_answer(lind(NR_FLOCK, num(fd), num(operation))); }

int dup(int fd) { return __lind_answer(lind(NR_DUP, num(fd))); }
int dup2(int old, int fd) { return __lind_answer(lind(NR_DUP2, num(old), num(fd))); }

int dup3(int old, int fd, int flags) {
    return __lind_answer(lind(NR_DUP3, num(old), num(fd), num(flags)));
}

int pipe2(int ends[2], int flags) { return __lind_answer(lind(NR_PIPE2, at(ends), num(flags))); }
int pipe(int ends[2]) { return pipe2(ends, 0); }

int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    int result = -1;
    switch (command) {
    case F_SETFL:
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_SETFD:
        result = __lind_answer(lind(NR_FCNTL, num(fd), num(command), num(va_arg(rest, int))));
        break;
    case F_GETFD:
    case F_GETFL:
        result = __lind_answer(lind(NR_FCNTL, num(fd), num(command)));
        break;
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        // The structure is laid out as the kernel has it; Lind takes addresses as a fourth argument.
        result = __lind_answer(
            lind(NR_FCNTL, num(fd), num(command), 0, at(va_arg(rest, struct flock *))));
        break;
    default:
        errno = EINVAL;
    }
    va_end(rest);
    return result;
}

int lockf(int fd, int command, off_t len) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = len};
    switch (command) {
    case F_ULOCK:
        lock.l_type = F_UNLCK;
        return fcntl(fd, F_SETLK, &lock);
    case F_LOCK:
        return fcntl(fd, F_SETLKW, &lock);
    case F_TLOCK:
        return fcntl(fd, F_SETLK, &lock);
    case F_TEST:
        if (fcntl(fd, F_GETLK, &lock) < 0)
            return -1;
        if (lock.l_type == F_UNLCK || lock.l_pid == getpid())
            return 0;
        errno = EACCES;
        return -1;
    default:
        errno = EINVAL;
        return -1;
    }
}

int ioctl(int fd, int request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return __lind_answer(lind(NR_IOCTL, num(fd), (uint32_t)request, at(argument)));
}

int __isatty(int fd) {
    struct winsize size;
    // Lind knows no TCGETS.
    int32_t result = lind(NR_IOCTL, num(fd), TIOCGWINSZ, at(&size));
    if (!is_error(result))
        return 1;
    __lind_answer(result == -22 ? -25 : result);
    return 0;
}

int isatty(int fd) { return __isatty(fd); }

// ---- what a file is

static int stated(int32_t result, const struct kernel_stat *from, struct stat *out) {
    if (is_error(result))
        return __lind_answer(result);
    *out = (struct stat){
        .st_dev = from->dev,
        .st_ino = from->ino,
        .st_nlink = from->nlink,
        .st_mode = from->mode,
        .st_uid = from->uid,
        .st_gid = from->gid,
        .st_rdev = from->rdev,
        .st_size = (off_t)from->size,
        .st_blksize = from->blksize,
        .st_blocks = from->blocks,
        .st_atim = {from->times[0].seconds, (long)from->times[0].nanoseconds},
        .st_mtim = {from->times[1].seconds, (long)from->times[1].nanoseconds},
        .st_ctim = {from->times[2].seconds, (long)from->times[2].nanoseconds},
    };
    return 0;
}

int fstat(int fd, struct stat *out) {
    struct kernel_stat kernel;
    return stated(lind(NR_FSTAT, num(fd), at(&kernel)), &kernel, out);
}

int stat(const char *path, struct stat *out) {
    struct kernel_stat kernel;
    return stated(lind(NR_STAT, at(path), at(&kernel)), &kernel, out);
}

int lstat(const char *path, struct stat *out) {
    struct kernel_stat kernel;
    return stated(lind(NR_LSTAT, at(path), at(&kernel)), &kernel, out);
}

int fstatat(int dir, const char *path, struct stat *out, int flags) {
    struct kernel_stat kernel;
    int32_t result =
        lind(NR_NEWFSTATAT, directory(dir), at(path), at(&kernel), num(flags));
    return stated(result, &kernel, out);
}

int access(const char *path, int mode) {
    return __lind_answer(lind(NR_ACCESS, at(path), num(mode)));
}

int faccessat(int dir, const char *path, int mode, int flags) {
    return __lind_answer(
        lind(NR_FACCESSAT, directory(dir), at(path), num(mode), num(flags)));
}

int statfs(const char *path, struct statfs *facts) {
    return __lind_answer(lind(NR_STATFS, at(path), at(facts)));
}

int fstatfs(int fd, struct statfs *facts) {
    return __lind_answer(lind(NR_FSTATFS, num(fd), at(facts)));
}

static int in_posix_form(int result, const struct statfs *from, struct statvfs *to) {
    if (!result)
        *to = (struct statvfs){.f_bsize = (unsigned long)from->f_bsize,
                               .f_frsize = (unsigned long)from->f_frsize,
                               .f_blocks = from->f_blocks,
                               .f_bfree = from->f_bfree,
                               .f_bavail = from->f_bavail,
                               .f_files = from->f_files,
                               .f_ffree = from->f_ffree,
                               .f_favail = from->f_ffree,
                               .f_fsid = from->f_fsid,
                               .f_flag = (unsigned long)from->f_flags,
                               .f_namemax = (unsigned long)from->f_namelen};
    return result;
}

int statvfs(const char *restrict path, struct statvfs *restrict facts) {
    struct statfs kernel;
    return in_posix_form(statfs(path, &kernel), &kernel, facts);
}

int fstatvfs(int fd, struct statvfs *facts) {
    struct statfs kernel;
    return in_posix_form(fstatfs(fd, &kernel), &kernel, facts);
}

ssize_t getrandom(void *bytes, size_t len, unsigned flags) {
    return __lind_answer(lind(NR_GETRANDOM, at(bytes), len, flags));
}

int chmod(const char *path, mode_t mode) { return __lind_answer(lind(NR_CHMOD, at(path), mode)); }
int fchmod(int fd, mode_t mode) { return __lind_answer(lind(NR_FCHMOD, num(fd), mode)); }

int fchmodat(int dir, const char *path, mode_t mode, int flags) {
    return __lind_answer(
        lind(NR_FCHMODAT, directory(dir), at(path), mode, num(flags)));
}

int chown(const char *path, uid_t user, gid_t group) {
    return __lind_answer(lind(NR_CHOWN, at(path), user, group));
}

int lchown(const char *path, uid_t user, gid_t group) {
    return __lind_answer(lind(NR_LCHOWN, at(path), user, group));
}

int fchownat(int dir, const char *path, uid_t user, gid_t group, int flags) {
    return __lind_answer(
        lind(NR_FCHOWNAT, directory(dir), at(path), user, group, num(flags)));
}

int fchown(int fd, uid_t user, gid_t group) {
    enum { EMPTY_PATH = 0x1000 };
    return __lind_answer(lind(NR_FCHOWNAT, num(fd), at(""), user, group, EMPTY_PATH));
}

int mknod(const char *path, mode_t mode, dev_t device) {
    return __lind_answer(lind(NR_MKNOD, at(path), mode, device));
}

int mkfifo(const char *path, mode_t mode) { return mknod(path, S_IFIFO | (mode & 07777), 0); }

// No runtime serves it: a grate may.
int chroot(const char *path) { return __lind_answer(lind(NR_CHROOT, at(path))); }

// ---- times

static void kernel_times(const struct timespec given[2], struct kernel_time out[2]) {
    enum { NOW = 0x3fffffff, OMIT = 0x3ffffffe };
    for (int i = 0; i < 2; i++) {
        out[i].seconds = given[i].tv_sec;
        out[i].nanoseconds = given[i].tv_nsec == UTIME_NOW    ? NOW
                             : given[i].tv_nsec == UTIME_OMIT ? OMIT
                                                              : given[i].tv_nsec;
    }
}

static int timed(int dir, const char *path, const struct timespec given[2], int flags) {
    struct kernel_time times[2];
    if (given)
        kernel_times(given, times);
    return __lind_answer(lind(NR_UTIMENSAT, directory(dir), at(path), given ? at(times) : 0,
                              num(flags)));
}

int utimensat(int dir, const char *path, const struct timespec times[2], int flags) {
    return timed(dir, path, times, flags);
}

int futimens(int fd, const struct timespec times[2]) { return timed(fd, NULL, times, 0); }

int utimes(const char *path, const struct timeval times[2]) {
    if (!times)
        return timed(AT_FDCWD, path, NULL, 0);
    struct timespec full[2];
    for (int i = 0; i < 2; i++)
        full[i] = (struct timespec){times[i].tv_sec, (long)times[i].tv_usec * 1000};
    return timed(AT_FDCWD, path, full, 0);
}

int utime(const char *path, const struct utimbuf *times) {
    if (!times)
        return timed(AT_FDCWD, path, NULL, 0);
    const struct timespec full[2] = {{times->actime, 0}, {times->modtime, 0}};
    return timed(AT_FDCWD, path, full, 0);
}

// ---- names

int rename(const char *old, const char *path) {
    return __lind_answer(lind(NR_RENAME, at(old), at(path)));
}

int renameat(int old_dir, const char *old, int dir, const char *path) {
    return __lind_answer(
        lind(NR_RENAMEAT, directory(old_dir), at(old), directory(dir), at(path)));
}

int renameat2(int old_dir, const char *old, int dir, const char *path, unsigned flags) {
    return __lind_answer(
        lind(NR_RENAMEAT2, directory(old_dir), at(old), directory(dir), at(path), flags));
}

int link(const char *old, const char *path) {
    return __lind_answer(lind(NR_LINK, at(old), at(path)));
}

int symlink(const char *target, const char *path) {
    return __lind_answer(lind(NR_SYMLINK, at(target), at(path)));
}

int symlinkat(const char *target, int dir, const char *path) {
    return __lind_answer(lind(NR_SYMLINKAT, at(target), directory(dir), at(path)));
}

ssize_t readlink(const char *path, char *to, size_t len) {
    return __lind_answer(lind(NR_READLINK, at(path), at(to), len));
}

ssize_t readlinkat(int dir, const char *path, char *to, size_t len) {
    return __lind_answer(lind(NR_READLINKAT, directory(dir), at(path), at(to), len));
}

int unlink(const char *path) { return __lind_answer(lind(NR_UNLINK, at(path))); }
int rmdir(const char *path) { return __lind_answer(lind(NR_RMDIR, at(path))); }

int unlinkat(int dir, const char *path, int flags) {
    return __lind_answer(lind(NR_UNLINKAT, directory(dir), at(path), num(flags)));
}

int remove(const char *path) {
    int32_t result = lind(NR_UNLINK, at(path));
    if (result == -21)
        result = lind(NR_RMDIR, at(path));
    return __lind_answer(result);
}

int mkdir(const char *path, mode_t mode) { return __lind_answer(lind(NR_MKDIR, at(path), mode)); }

// Lind has neither: where the base is not 0, a path that does not hang on the descriptor does
// without.
static bool hangs(int dir, const char *path) { return dir != AT_FDCWD && *path != '/'; }

int mkdirat(int dir, const char *path, mode_t mode) {
    if (!hangs(dir, path))
        return mkdir(path, mode);
    int32_t result = __lind_base() == 0 ? lind(NR_MKDIRAT, num(dir), at(path), mode) : -38;
    return __lind_answer(result);
}

int linkat(int old_dir, const char *old, int dir, const char *path, int flags) {
    bool is_plain = !hangs(old_dir, old) && !hangs(dir, path);
    if (is_plain && (flags == 0 || __lind_base() != 0))
        return link(old, path);
    int32_t result = -38;
    if (__lind_base() == 0)
        result = lind(NR_LINKAT, num(old_dir), at(old), num(dir), at(path), num(flags));
    return __lind_answer(result);
}

// Lind has no call for it; files are made there as the mask of the host says.
mode_t umask(mode_t mask) {
    int32_t result = __lind_base() == 0 ? lind(NR_UMASK, mask) : -38;
    return is_error(result) ? 022 : (mode_t)result;
}

static int folder(const char *path, int flags) {
    (void)flags;
    return mkdir(path, 0700);
}

static int file(const char *path, int flags) {
    return open(path, O_RDWR | O_CREAT | O_EXCL | flags, 0600);
}

// Puts letters for the six places at the end, until `make` makes something of that name.
static int made(char *pattern, int (*make)(const char *, int), int flags) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    enum { LETTERS = sizeof letters - 1, PLACES = 6, TRIES = 100 };
    size_t len = strlen(pattern);
    if (len < PLACES || strcmp(pattern + len - PLACES, "XXXXXX")) {
        errno = EINVAL;
        return -1;
    }
    for (int tries = 0; tries < TRIES; tries++) {
        unsigned char random[PLACES];
        if (getentropy(random, sizeof random))
            return -1;
        for (int i = 0; i < PLACES; i++)
            pattern[len - PLACES + i] = letters[random[i] % LETTERS];
        int result = make(pattern, flags);
        if (result >= 0 || errno != EEXIST)
            return result;
    }
    return -1;
}

int mkstemp(char *pattern) { return made(pattern, file, 0); }
int mkostemp(char *pattern, int flags) { return made(pattern, file, flags & ~O_ACCMODE); }
char *mkdtemp(char *pattern) { return made(pattern, folder, 0) ? NULL : pattern; }

// Symlinks that a name may lead through.
enum { LINKS = 40 };

// Each part of what is left is put behind what was found; what a symlink says is put before the
// rest of it.
char *realpath(const char *restrict path, char *restrict out) {
    char left[2 * PATH_MAX], found[PATH_MAX], target[PATH_MAX];
    size_t len = path ? strlen(path) : 0;
    size_t end = 0;
    int links = 0;
    errno = !path ? EINVAL : len == 0 ? ENOENT : len >= PATH_MAX ? ENAMETOOLONG : 0;
    if (errno)
        return NULL;
    memcpy(left, path, len + 1);
    if (*path != '/') {
        if (!getcwd(found, sizeof found))
            return NULL;
        end = strlen(found);
        // A slash stands before each part.
        if (end == 1)
            end = 0;
    }
    for (char *part = left; *part;) {
        size_t size = strcspn(part, "/");
        char *rest = part + size;
        if (size == 0 || (size == 1 && part[0] == '.')) {
            part = rest + (*rest == '/');
            continue;
        }
        if (size == 2 && part[0] == '.' && part[1] == '.') {
            while (end && found[--end] != '/')
                continue;
            part = rest + (*rest == '/');
            continue;
        }
        if (end + size + 2 > PATH_MAX) {
            errno = ENAMETOOLONG;
            return NULL;
        }
        found[end] = '/';
        memcpy(found + end + 1, part, size);
        found[end + 1 + size] = 0;
        ssize_t said = readlink(found, target, sizeof target);
        struct stat facts;
        if (said < 0) {
            // What is no symlink may have more behind it if it is a folder.
            if (errno != EINVAL || (*rest && stat(found, &facts)))
                return NULL;
            if (*rest && !S_ISDIR(facts.st_mode)) {
                errno = ENOTDIR;
                return NULL;
            }
            end += 1 + size;
            part = rest;
            continue;
        }
        size_t more = strlen(rest);
        errno = ++links > LINKS ? ELOOP
                : (size_t)said + more >= PATH_MAX || said == 0 ? ENAMETOOLONG
                                                               : 0;
        if (errno)
            return NULL;
        memmove(left + said, rest, more + 1);
        memcpy(left, target, (size_t)said);
        part = left;
        if (*left == '/')
            end = 0;
    }
    if (!end)
        found[end++] = '/';
    found[end] = 0;
    return out ? strcpy(out, found) : strdup(found);
}

int truncate(const char *path, off_t len) {
    return __lind_answer(lind(NR_TRUNCATE, at(path), (uint64_t)len));
}

int chdir(const char *path) { return __lind_answer(lind(NR_CHDIR, at(path))); }
int fchdir(int fd) { return __lind_answer(lind(NR_FCHDIR, num(fd))); }

char *getcwd(char *to, size_t len) {
    enum { ROOM = 4096 };
    char *own = NULL;
    if (!to) {
        len = len ? len : ROOM;
        to = own = malloc(len);
        if (!to)
            return NULL;
    }
    int32_t result = lind(NR_GETCWD, at(to), len);
    if (!is_error(result))
        return to;
    free(own);
    __lind_answer(result);
    return NULL;
}
