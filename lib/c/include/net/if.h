// Interfaces of the network, in Linux's numbers.

#ifndef LIND_NET_IF_H
#define LIND_NET_IF_H

#ifdef __cplusplus
extern "C" {
#endif

#define IF_NAMESIZE 16
#define IFNAMSIZ IF_NAMESIZE

#define IFF_UP 0x1
#define IFF_BROADCAST 0x2
#define IFF_LOOPBACK 0x8
#define IFF_POINTOPOINT 0x10
#define IFF_RUNNING 0x40
#define IFF_NOARP 0x80
#define IFF_PROMISC 0x100
#define IFF_ALLMULTI 0x200
#define IFF_MULTICAST 0x1000

unsigned if_nametoindex(const char *);
char *if_indextoname(unsigned, char *);

#ifdef __cplusplus
}
#endif

#endif
