// An interface's own address, as getifaddrs tells it.

#ifndef LIND_NETPACKET_PACKET_H
#define LIND_NETPACKET_PACKET_H

struct sockaddr_ll {
    unsigned short sll_family, sll_protocol;
    int sll_ifindex;
    unsigned short sll_hatype;
    unsigned char sll_pkttype, sll_halen, sll_addr[8];
};

#endif
