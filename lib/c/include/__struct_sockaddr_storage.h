#ifndef __wasilibc___struct_sockaddr_storage_h
#define __wasilibc___struct_sockaddr_storage_h

#include <__typedef_sa_family_t.h>

struct sockaddr_storage {
    _Alignas(8) sa_family_t ss_family;
    char __ss_data[126];
};

#endif
