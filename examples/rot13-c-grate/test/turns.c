// Writes, and reads what it has written: as it was, but for those who look at the file past the
// grate, as a mapping does.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s (errno %d)\n", __LINE__, #condition, errno);              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const char plain[] = "Hello, World 123 ~{}";
static const char turned[] = "Uryyb, Jbeyq 123 ~{}";
enum { LEN = sizeof plain - 1, LARGE = 100000 };

static void ensure_on_disk(int fd, const char *bytes, size_t len) {
    char *mapped = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(mapped != MAP_FAILED && !memcmp(mapped, bytes, len));
    CHECK(munmap(mapped, len) == 0);
}

int main(void) {
    char seen[LEN];
    int fd = open("/tmp/turns", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd > 2);
    CHECK(write(fd, plain, LEN) == LEN);
    ensure_on_disk(fd, turned, LEN);
    CHECK(pread(fd, seen, LEN, 0) == LEN && !memcmp(seen, plain, LEN));
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && read(fd, seen, LEN) == LEN && !memcmp(seen, plain, LEN));
    CHECK(read(fd, seen, LEN) == 0 && read(fd, seen, 0) == 0);
    CHECK(pwrite(fd, "abc", 3, 2) == 3 && pread(fd, seen, LEN, 0) == LEN);
    CHECK(!memcmp(seen, "Heabc, W", 8));
    ensure_on_disk(fd, "Urnop, J", 8);
    CHECK(read(fd, (void *)(uintptr_t)0xfffffff0, 4) == 0 || errno == EFAULT);
    CHECK(write(fd, (void *)(uintptr_t)0xf0000000, 4) == -1 && errno == EFAULT);
    CHECK(write(-1, plain, LEN) == -1 && errno == EBADF);

    struct iovec parts[] = {{NULL, 0}, {(char *)plain, 5}, {(char *)plain + 5, LEN - 5}};
    ssize_t got = pwritev(fd, parts, 0, 0);
    CHECK(got == 0 && lseek(fd, 0, SEEK_SET) == 0 && (got = writev(fd, parts, 3)) >= 5);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    struct iovec room = {seen, LEN};
    CHECK((got = readv(fd, &room, 1)) > 0 && !memcmp(seen, plain, 5));
    CHECK(close(fd) == 0);

    // More than fits into one call of the grate's; the libc asks again.
    static char large[LARGE], back[LARGE];
    for (int i = 0; i < LARGE; i++)
        large[i] = (char)('a' + i % 26);
    FILE *file = fopen("/tmp/turns", "w+");
    CHECK(file && fwrite(large, 1, LARGE, file) == LARGE && fflush(file) == 0);
    rewind(file);
    CHECK(fread(back, 1, LARGE, file) == LARGE && !memcmp(back, large, LARGE));
    ensure_on_disk(fileno(file), "nopqrstuvwxyzabcdefghijklm", 26);
    CHECK(fclose(file) == 0);
    puts("turned and turned back");
    return 0;
}
