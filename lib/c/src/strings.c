// What an error is, in words: the libc's functions know WASI's numbers.

#include "lind.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

char *libc_strerror(int) __asm__("strerror");

char *strerror(int error) { return libc_strerror(__lind_wasi_errno(error)); }

int strerror_r(int error, char *to, size_t room) {
    const char *text = strerror(error);
    size_t len = strlen(text);
    if (len >= room) {
        if (room) {
            memcpy(to, text, room - 1);
            to[room - 1] = 0;
        }
        return ERANGE;
    }
    memcpy(to, text, len + 1);
    return 0;
}

void perror(const char *what) {
    int error = errno;
    const char *before = what && *what ? what : "";
    fprintf(stderr, "%s%s%s\n", before, *before ? ": " : "", strerror(error));
}
