// In Linux's numbers.

#ifndef __wasilibc___header_poll_h
#define __wasilibc___header_poll_h

#include <__struct_pollfd.h>
#include <__struct_timespec.h>
#include <__typedef_nfds_t.h>
#include <__typedef_sigset_t.h>

#define POLLIN 0x001
#define POLLPRI 0x002
#define POLLOUT 0x004
#define POLLERR 0x008
#define POLLHUP 0x010
#define POLLNVAL 0x020
#define POLLRDNORM 0x040
#define POLLWRNORM 0x100

#ifdef __cplusplus
extern "C" {
#endif

int poll(struct pollfd[], nfds_t, int);
int ppoll(struct pollfd[], nfds_t, const struct timespec *, const sigset_t *);

#ifdef __cplusplus
}
#endif

#endif
