// Directories.

#include "lind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#undef lseek

struct __lind_dir {
    int fd;
    // How much of the entries has been handed out, and how much there is.
    int from, filled;
    // How many were handed out: a place of the kernel's can be larger than a `long`.
    long count;
    _Alignas(8) char entries[4096];
};

DIR *fdopendir(int fd) {
    DIR *directory = calloc(1, sizeof *directory);
    if (directory)
        directory->fd = fd;
    return directory;
}

DIR *opendir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *directory = fdopendir(fd);
    if (!directory)
        close(fd);
    return directory;
}

struct dirent *readdir(DIR *directory) {
    if (directory->from >= directory->filled) {
        int32_t got = lind(NR_GETDENTS64, num(directory->fd), at(directory->entries),
                           sizeof directory->entries);
        if (got <= 0) {
            // At the end, errno stays as it was.
            __lind_answer(got);
            return NULL;
        }
        directory->from = 0;
        directory->filled = got;
    }
    struct dirent *entry = (void *)(directory->entries + directory->from);
    directory->from += entry->d_reclen;
    directory->count++;
    return entry;
}

int closedir(DIR *directory) {
    int result = close(directory->fd);
    free(directory);
    return result;
}

int dirfd(DIR *directory) { return directory->fd; }

void rewinddir(DIR *directory) {
    lseek(directory->fd, 0, SEEK_SET);
    directory->from = directory->filled = 0;
    directory->count = 0;
}

long telldir(DIR *directory) { return directory->count; }

void seekdir(DIR *directory, long count) {
    rewinddir(directory);
    while (directory->count < count && readdir(directory))
        ;
}

int alphasort(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

int scandir(const char *path, struct dirent ***out, int (*wanted)(const struct dirent *),
            int (*order)(const struct dirent **, const struct dirent **)) {
    DIR *directory = opendir(path);
    if (!directory)
        return -1;
    struct dirent **list = NULL;
    int count = 0, kept = errno;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (wanted && !wanted(entry))
            continue;
        struct dirent **longer = realloc(list, (size_t)(count + 1) * sizeof *list);
        struct dirent *copy = malloc(entry->d_reclen);
        if (longer)
            list = longer;
        if (!longer || !copy) {
            free(copy);
            errno = ENOMEM;
            break;
        }
        list[count++] = memcpy(copy, entry, entry->d_reclen);
        errno = 0;
    }
    int error = errno;
    closedir(directory);
    if (error) {
        while (count)
            free(list[--count]);
        free(list);
        errno = error;
        return -1;
    }
    errno = kept;
    if (order && count)
        qsort(list, (size_t)count, sizeof *list, (int (*)(const void *, const void *))order);
    *out = list;
    return count;
}
