// Addresses as text. The libc's functions know WASI's numbers of the families.

#include_next <arpa/inet.h>

#ifndef LIND_ARPA_INET_H
#define LIND_ARPA_INET_H

#ifdef __cplusplus
extern "C" {
#endif

int inet_pton(int, const char *__restrict, void *__restrict) __asm__("__lind_inet_pton");
const char *inet_ntop(int, const void *__restrict, char *__restrict,
                      socklen_t) __asm__("__lind_inet_ntop");
in_addr_t inet_addr(const char *);
char *inet_ntoa(struct in_addr);

#ifdef __cplusplus
}
#endif

#endif
