// Sockets, and waiting for descriptors.

#include "lind.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

int socket(int family, int kind, int protocol) {
    return __lind_answer(lind(NR_SOCKET, num(family), num(kind), num(protocol)));
}

int socketpair(int family, int kind, int protocol, int pair[2]) {
    return __lind_answer(lind(NR_SOCKETPAIR, num(family), num(kind), num(protocol), at(pair)));
}

int bind(int fd, const struct sockaddr *address, socklen_t len) {
    return __lind_answer(lind(NR_BIND, num(fd), at(address), len));
}

int connect(int fd, const struct sockaddr *address, socklen_t len) {
    return __lind_answer(lind(NR_CONNECT, num(fd), at(address), len));
}

int listen(int fd, int backlog) { return __lind_answer(lind(NR_LISTEN, num(fd), num(backlog))); }
int shutdown(int fd, int how) { return __lind_answer(lind(NR_SHUTDOWN, num(fd), num(how))); }

// Room for the address of any family. Lind's accept takes it to be that of the family which stands
// there, and leaves the length as it was.
struct room {
    struct sockaddr_storage address;
    socklen_t len;
};
#define ROOM {.address = {.ss_family = AF_INET6}, .len = sizeof(struct sockaddr_storage)}

static void hand_out(struct room *from, struct sockaddr *to, socklen_t *len) {
    if (!to || !len)
        return;
    if (from->len == sizeof from->address) {
        sa_family_t family = from->address.ss_family;
        // Who connects to a path has no name as a rule, and one that is cut is none.
        from->len = family == AF_INET ? 16 : family == AF_INET6 ? 28 : 2;
    }
    memcpy(to, &from->address, *len < from->len ? *len : from->len);
    *len = from->len;
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len, int flags) {
    struct room room = ROOM;
    int32_t result = lind(NR_ACCEPT4, num(fd), at(&room.address), at(&room.len), num(flags));
    if (!is_error(result))
        hand_out(&room, address, len);
    return __lind_answer(result);
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
    return accept4(fd, address, len, 0);
}

static int named(uint32_t nr, int fd, struct sockaddr *address, socklen_t *len) {
    struct room room = ROOM;
    int32_t result = lind(nr, num(fd), at(&room.address), at(&room.len));
    if (!is_error(result))
        hand_out(&room, address, len);
    return __lind_answer(result);
}

int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
    return named(NR_GETSOCKNAME, fd, address, len);
}

int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
    return named(NR_GETPEERNAME, fd, address, len);
}

ssize_t sendto(int fd, const void *from, size_t len, int flags, const struct sockaddr *address,
               socklen_t address_len) {
    return __lind_answer(lind(NR_SENDTO, num(fd), at(from), len, num(flags), at(address),
                              address ? address_len : 0));
}

ssize_t send(int fd, const void *from, size_t len, int flags) {
    return sendto(fd, from, len, flags, NULL, 0);
}

ssize_t recvfrom(int fd, void *restrict to, size_t len, int flags,
                 struct sockaddr *restrict address, socklen_t *restrict address_len) {
    struct room room = ROOM;
    int32_t result = lind(NR_RECVFROM, num(fd), at(to), len, num(flags),
                          address ? at(&room.address) : 0, address ? at(&room.len) : 0);
    if (!is_error(result))
        hand_out(&room, address, address_len);
    return __lind_answer(result);
}

ssize_t recv(int fd, void *to, size_t len, int flags) {
    return recvfrom(fd, to, len, flags, NULL, NULL);
}

// ---- messages

struct kernel_message {
    uint64_t name;
    uint32_t name_len;
    uint64_t vectors, count, control, control_len;
    int32_t flags;
};

enum { VECTORS = 64 };

static bool kernel_form(const struct msghdr *from, struct kernel_message *to,
                        struct kernel_vector vectors[VECTORS]) {
    if (from->msg_iovlen < 0 || from->msg_iovlen > VECTORS) {
        errno = EMSGSIZE;
        return false;
    }
    for (int i = 0; i < from->msg_iovlen; i++)
        vectors[i] =
            (struct kernel_vector){at(from->msg_iov[i].iov_base), from->msg_iov[i].iov_len};
    *to = (struct kernel_message){.name = at(from->msg_name),
                                  .name_len = from->msg_namelen,
                                  .vectors = at(vectors),
                                  .count = (uint64_t)from->msg_iovlen,
                                  .control = at(from->msg_control),
                                  .control_len = from->msg_controllen};
    return true;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    struct kernel_message kernel;
    struct kernel_vector vectors[VECTORS];
    if (!kernel_form(message, &kernel, vectors))
        return -1;
    return __lind_answer(lind(NR_SENDMSG, num(fd), at(&kernel), num(flags)));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    struct kernel_message kernel;
    struct kernel_vector vectors[VECTORS];
    if (!kernel_form(message, &kernel, vectors))
        return -1;
    int32_t result = lind(NR_RECVMSG, num(fd), at(&kernel), num(flags));
    if (!is_error(result)) {
        message->msg_namelen = kernel.name_len;
        message->msg_controllen = (socklen_t)kernel.control_len;
        message->msg_flags = kernel.flags;
    }
    return __lind_answer(result);
}

// ---- options

int setsockopt(int fd, int level, int option, const void *value, socklen_t len) {
    return __lind_answer(
        lind(NR_SETSOCKOPT, num(fd), num(level), num(option), at(value), len));
}

int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict len) {
    return __lind_answer(
        lind(NR_GETSOCKOPT, num(fd), num(level), num(option), at(value), at(len)));
}

// ---- addresses as text

int libc_inet_pton(int, const char *restrict, void *restrict) __asm__("inet_pton");
const char *libc_inet_ntop(int, const void *restrict, char *restrict,
                           socklen_t) __asm__("inet_ntop");

// WASI's number of a family.
static int wasi_family(int family) { return family == AF_INET ? 1 : family == AF_INET6 ? 2 : -1; }

int inet_pton(int family, const char *restrict from, void *restrict to) {
    return libc_inet_pton(wasi_family(family), from, to);
}

const char *inet_ntop(int family, const void *restrict from, char *restrict to, socklen_t len) {
    return libc_inet_ntop(wasi_family(family), from, to, len);
}

in_addr_t inet_addr(const char *from) {
    struct in_addr address;
    return inet_aton(from, &address) ? address.s_addr : INADDR_NONE;
}

char *inet_ntoa(struct in_addr address) {
    static char text[16];
    const unsigned char *byte = (const void *)&address;
    snprintf(text, sizeof text, "%d.%d.%d.%d", byte[0], byte[1], byte[2], byte[3]);
    return text;
}

// ---- waiting

int poll(struct pollfd *polls, nfds_t count, int timeout) {
    return __lind_answer(lind(NR_POLL, at(polls), (uint32_t)count, num(timeout)));
}

static void ask(struct pollfd *polls, size_t *count, const fd_set *set, short events) {
    for (size_t i = 0; set && i < set->__nfds; i++) {
        size_t at = 0;
        while (at < *count && polls[at].fd != set->__fds[i])
            at++;
        if (at == *count)
            polls[(*count)++] = (struct pollfd){.fd = set->__fds[i]};
        polls[at].events |= events;
    }
}

static int told(const struct pollfd *polls, size_t count, fd_set *set, short events) {
    if (!set)
        return 0;
    FD_ZERO(set);
    for (size_t i = 0; i < count; i++)
        if (polls[i].revents & events)
            FD_SET(polls[i].fd, set);
    return (int)set->__nfds;
}

// Milliseconds, at least as long; -1 for ever.
static bool in_millis(const struct timespec *time, int *millis) {
    *millis = -1;
    if (!time)
        return true;
    if (time->tv_sec < 0 || time->tv_nsec < 0 || time->tv_nsec >= 1000000000)
        return false;
    *millis = INT32_MAX;
    if (time->tv_sec < INT32_MAX / 1000 - 1)
        *millis = (int)time->tv_sec * 1000 + (int)((time->tv_nsec + 999999) / 1000000);
    return true;
}

static int32_t polled(struct pollfd *polls, nfds_t count, int millis, const sigset_t *mask) {
    return mask ? lind(NR_PPOLL, at(polls), (uint32_t)count, num(millis), at(mask))
                : lind(NR_POLL, at(polls), (uint32_t)count, num(millis));
}

int ppoll(struct pollfd *polls, nfds_t count, const struct timespec *time, const sigset_t *mask) {
    int millis;
    if (!in_millis(time, &millis)) {
        errno = EINVAL;
        return -1;
    }
    int32_t result = polled(polls, count, millis, mask);
    __lind_look_for_signals();
    return __lind_answer(result);
}

int pselect(int most, fd_set *restrict readable, fd_set *restrict writable,
            fd_set *restrict exceptional, const struct timespec *restrict time,
            const sigset_t *restrict mask) {
    // Every set has room for so many.
    struct pollfd polls[FD_SETSIZE];
    size_t count = 0;
    const fd_set *sets[] = {readable, writable, exceptional};
    size_t all = 0;
    int millis;
    for (int i = 0; i < 3; i++)
        all += sets[i] ? sets[i]->__nfds : 0;
    if (most < 0 || all > FD_SETSIZE || !in_millis(time, &millis)) {
        errno = EINVAL;
        return -1;
    }
    ask(polls, &count, readable, POLLIN);
    ask(polls, &count, writable, POLLOUT);
    ask(polls, &count, exceptional, POLLPRI);
    if (count == 0 && millis > 0 && !mask) {
        // Lind's poll does not wait without a descriptor.
        struct kernel_time sleep = {millis / 1000, millis % 1000 * 1000000ll};
        int32_t slept = lind(NR_CLOCK_NANOSLEEP, 1, 0, at(&sleep), 0);
        if (is_error(slept))
            return __lind_answer(slept);
        millis = 0;
    }
    int32_t ready = polled(polls, count, millis, mask);
    __lind_look_for_signals();
    if (is_error(ready))
        return __lind_answer(ready);
    for (size_t i = 0; i < count; i++)
        if (polls[i].revents & POLLNVAL) {
            errno = EBADF;
            return -1;
        }
    return told(polls, count, readable, POLLIN | POLLHUP | POLLERR) +
           told(polls, count, writable, POLLOUT | POLLERR) +
           told(polls, count, exceptional, POLLPRI);
}

int select(int most, fd_set *restrict readable, fd_set *restrict writable,
           fd_set *restrict exceptional, struct timeval *restrict timeout) {
    struct timespec time;
    if (timeout) {
        // A second that is written as microseconds is one.
        time.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
        time.tv_nsec = (long)(timeout->tv_usec % 1000000) * 1000;
    }
    return pselect(most, readable, writable, exceptional, timeout ? &time : NULL, NULL);
}

int epoll_create1(int flags) { return __lind_answer(lind(NR_EPOLL_CREATE1, num(flags))); }
int epoll_create(int size) {
    (void)size;
    return epoll_create1(0);
}

int epoll_ctl(int set, int what, int fd, struct epoll_event *event) {
    return __lind_answer(lind(NR_EPOLL_CTL, num(set), num(what), num(fd), at(event)));
}

int epoll_wait(int set, struct epoll_event *events, int most, int timeout) {
    return __lind_answer(lind(NR_EPOLL_WAIT, num(set), at(events), num(most), num(timeout)));
}
