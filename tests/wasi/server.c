/* Serves one connection on the socket that it is handed, with poll and the file of that name. Built
 * with a stock WASI toolchain, whose libc knows sockets by accept, recv, send and shutdown. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_SOCKET = 3, DONE = 7 };

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(void) {
    const char *count = getenv("LISTEN_FDS");
    if (count == NULL || strcmp(count, "1") != 0) return fail("LISTEN_FDS");
    /* The directory is found behind the socket. */
    int file = open("/greeting", O_RDONLY);
    if (file < 0) return fail("open");
    char text[100];
    ssize_t length = read(file, text, sizeof text);
    if (length < 0) return fail("read");
    printf("ready\n");
    fflush(stdout);
    struct pollfd wanted = {.fd = FIRST_SOCKET, .events = POLLRDNORM};
    if (poll(&wanted, 1, -1) != 1) return fail("poll");
    int connection = accept(FIRST_SOCKET, NULL, NULL);
    if (connection < 0) return fail("accept");
    if (send(connection, text, length, 0) != length) return fail("send");
    for (;;) {
        ssize_t got = recv(connection, text, sizeof text, 0);
        if (got < 0) return fail("recv");
        if (got == 0) break;
        if (send(connection, text, got, 0) != got) return fail("send");
    }
    if (shutdown(connection, SHUT_WR) != 0) return fail("shutdown");
    if (recv(STDOUT_FILENO, text, 1, 0) != -1 || errno != ENOTSOCK) return fail("no socket");
    close(connection);
    return DONE;
}
