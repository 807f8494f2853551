// Streams, for several threads: the libc's know of one. The linker turns every call of these
// functions, those within the libc too, into one of the ones here (`--wrap`), which hold the
// stream's lock meanwhile.

#include "lind.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// The address of it tells threads apart.
static _Thread_local char self;

// One that its holder can take again.
struct stream_lock {
    struct lind_lock lock;
    _Atomic(char *) holder;
    unsigned depth;
};

// Those of standard input, output and error, which may be held for long, and of all others: which
// one, the stream's address says. The last is that of the list of streams.
enum { STANDARD = 3, OTHERS = 61, LIST = STANDARD + OTHERS, LOCKS };
static struct stream_lock locks[LOCKS];

static struct stream_lock *lock_of(const FILE *stream) {
    if (stream == stdin)
        return &locks[0];
    if (stream == stdout)
        return &locks[1];
    if (stream == stderr)
        return &locks[2];
    return &locks[STANDARD + (uintptr_t)stream / 16 % OTHERS];
}

static void take(struct stream_lock *lock) {
    if (lock->holder != &self) {
        __lind_take(&lock->lock);
        lock->holder = &self;
    }
    lock->depth++;
}

static void give(struct stream_lock *lock) {
    if (--lock->depth)
        return;
    lock->holder = NULL;
    __lind_give(&lock->lock);
}

// A child has but the thread that forked: nobody else gives back what was held.
void __lind_renew_streams(void) { memset(locks, 0, sizeof locks); }

void flockfile(FILE *stream) { take(lock_of(stream)); }
void funlockfile(FILE *stream) { give(lock_of(stream)); }

// The type, the name, the parameters, the arguments, and the stream among them.
#define LOCKED(type, name, parameters, arguments, stream)                                          \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        struct stream_lock *lock = lock_of(stream);                                                \
        take(lock);                                                                                \
        type result = __real_##name arguments;                                                     \
        give(lock);                                                                                \
        return result;                                                                             \
    }

LOCKED(int, fclose, (FILE * s), (s), s)
LOCKED(size_t, fread, (void *to, size_t size, size_t count, FILE *s), (to, size, count, s), s)
LOCKED(size_t, fwrite, (const void *from, size_t size, size_t count, FILE *s),
       (from, size, count, s), s)
LOCKED(int, fgetc, (FILE * s), (s), s)
LOCKED(int, getc, (FILE * s), (s), s)
LOCKED(int, getchar, (void), (), stdin)
LOCKED(int, ungetc, (int c, FILE *s), (c, s), s)
LOCKED(char *, fgets, (char *to, int room, FILE *s), (to, room, s), s)
LOCKED(ssize_t, getdelim, (char **to, size_t *room, int end, FILE *s), (to, room, end, s), s)
LOCKED(int, fputc, (int c, FILE *s), (c, s), s)
LOCKED(int, putc, (int c, FILE *s), (c, s), s)
LOCKED(int, putchar, (int c), (c), stdout)
LOCKED(int, fputs, (const char *from, FILE *s), (from, s), s)
LOCKED(int, puts, (const char *from), (from), stdout)
LOCKED(int, vfscanf, (FILE * s, const char *format, va_list rest), (s, format, rest), s)
LOCKED(int, fseek, (FILE * s, long offset, int whence), (s, offset, whence), s)
LOCKED(int, fseeko, (FILE * s, off_t offset, int whence), (s, offset, whence), s)
LOCKED(long, ftell, (FILE * s), (s), s)
LOCKED(off_t, ftello, (FILE * s), (s), s)
LOCKED(int, setvbuf, (FILE * s, char *buffer, int mode, size_t size), (s, buffer, mode, size), s)

// `%m` is what errno is.
int __real_vfprintf(FILE *stream, const char *format, va_list rest);
int __wrap_vfprintf(FILE *stream, const char *format, va_list rest) {
    struct stream_lock *lock = lock_of(stream);
    take(lock);
    __lind_show_errno();
    int result = __real_vfprintf(stream, format, rest);
    give(lock);
    return result;
}

// All streams, but for standard input, from which someone may be reading for long.
int __real_fflush(FILE *stream);
int __wrap_fflush(FILE *stream) {
    int from = 1, to = LIST;
    if (stream) {
        from = (int)(lock_of(stream) - locks);
        to = from + 1;
    }
    for (int i = from; i < to; i++)
        take(&locks[i]);
    int result = __real_fflush(stream);
    for (int i = to; i-- > from;)
        give(&locks[i]);
    return result;
}

// The libc takes and gives this one itself, in builds for several threads.
FILE **__real___ofl_lock(void);
FILE **__wrap___ofl_lock(void) {
    take(&locks[LIST]);
    return __real___ofl_lock();
}

void __wrap___ofl_unlock(void) { give(&locks[LIST]); }
