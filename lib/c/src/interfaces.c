// The network's interfaces and their addresses: what the kernel answers on a netlink socket.

#include "lind.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FAMILY_NETLINK = 16, FAMILY_PACKET = 17, KIND_RAW = 3 };
enum { DONE = 3, ERROR = 2, NEW_LINK = 16, GET_LINK = 18, NEW_ADDRESS = 20, GET_ADDRESS = 22 };
enum { IS_REQUEST = 1, DUMPS = 0x300 };
enum { LINK_ADDRESS = 1, LINK_NAME = 3 };
enum { ADDRESS = 1, LOCAL = 2, LABEL = 3, BROADCAST = 4 };

struct header {
    uint32_t len;
    uint16_t kind, flags;
    uint32_t number, port;
};

struct attribute {
    uint16_t len, kind;
};

struct link {
    uint8_t family, padding;
    uint16_t kind;
    uint32_t index, flags, change;
};

struct address {
    uint8_t family, prefix, flags, scope;
    uint32_t index;
};

union any {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_ll link;
};

// One interface or address, all in one piece of the heap.
struct entry {
    struct ifaddrs public;
    unsigned index;
    union any address, mask, other;
    char name[IF_NAMESIZE];
};

struct list {
    struct entry *first, *last;
};

static struct entry *added(struct list *list) {
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->public.ifa_name = entry->name;
    if (list->last)
        list->last->public.ifa_next = &entry->public;
    else
        list->first = entry;
    list->last = entry;
    return entry;
}

// The next attribute of so many bytes, which are cut down to what follows it.
static const struct attribute *next(const unsigned char **from, size_t *len) {
    struct attribute head;
    const void *found = *from;
    if (*len < sizeof head)
        return NULL;
    memcpy(&head, found, sizeof head);
    if (head.len < sizeof head || head.len > *len)
        return NULL;
    size_t whole = (head.len + 3u) & ~3u;
    if (whole > *len)
        whole = *len;
    *from += whole;
    *len -= whole;
    return found;
}

static void named(struct entry *entry, const unsigned char *value, size_t len) {
    if (len >= sizeof entry->name)
        len = sizeof entry->name - 1;
    memset(entry->name, 0, sizeof entry->name);
    memcpy(entry->name, value, len);
}

static bool add_link(struct list *list, const unsigned char *body, size_t len) {
    struct link link;
    if (len < sizeof link)
        return true;
    memcpy(&link, body, sizeof link);
    struct entry *entry = added(list);
    if (!entry)
        return false;
    entry->index = link.index;
    entry->public.ifa_flags = link.flags;
    body += sizeof link;
    len -= sizeof link;
    for (const struct attribute *one; (one = next(&body, &len));) {
        const unsigned char *value = (const unsigned char *)(one + 1);
        size_t size = one->len - sizeof *one;
        struct sockaddr_ll *own = &entry->address.link;
        if (one->kind == LINK_NAME)
            named(entry, value, size);
        if (one->kind == LINK_ADDRESS && size <= sizeof own->sll_addr) {
            *own = (struct sockaddr_ll){.sll_family = FAMILY_PACKET,
                                        .sll_ifindex = (int)link.index,
                                        .sll_hatype = link.kind,
                                        .sll_halen = (unsigned char)size};
            memcpy(own->sll_addr, value, size);
            entry->public.ifa_addr = &entry->address.any;
        }
    }
    return true;
}

// Where the bytes of an address are, if that many are one of the family.
static unsigned char *bytes_of(union any *address, int family, size_t len) {
    address->any.sa_family = (sa_family_t)family;
    if (family == AF_INET && len == sizeof address->v4.sin_addr)
        return (unsigned char *)&address->v4.sin_addr;
    if (family == AF_INET6 && len == sizeof address->v6.sin6_addr)
        return (unsigned char *)&address->v6.sin6_addr;
    return NULL;
}

static struct sockaddr *placed(union any *address, int family, const unsigned char *value,
                               size_t len, unsigned index) {
    unsigned char *bytes = bytes_of(address, family, len);
    if (!bytes)
        return NULL;
    memcpy(bytes, value, len);
    // Addresses of a link mean nothing without it.
    if (family == AF_INET6 && value[0] == 0xfe && (value[1] & 0xc0) == 0x80)
        address->v6.sin6_scope_id = index;
    return &address->any;
}

static struct sockaddr *masked(union any *mask, int family, unsigned prefix) {
    size_t len = family == AF_INET ? 4 : 16;
    unsigned char *bytes = bytes_of(mask, family, len);
    if (!bytes)
        return NULL;
    for (size_t i = 0; i < len; i++, prefix -= prefix < 8 ? prefix : 8)
        bytes[i] = prefix >= 8 ? 0xff : (unsigned char)(0xff00u >> prefix);
    return &mask->any;
}

static bool add_address(struct list *list, const unsigned char *body, size_t len) {
    struct address address;
    if (len < sizeof address)
        return true;
    memcpy(&address, body, sizeof address);
    struct entry *link = list->first;
    while (link && link->index != address.index)
        link = (struct entry *)(void *)link->public.ifa_next;
    // It may have come after the interfaces were told.
    if (!link)
        return true;
    struct entry *entry = added(list);
    if (!entry)
        return false;
    memcpy(entry->name, link->name, sizeof entry->name);
    entry->index = address.index;
    entry->public.ifa_flags = link->public.ifa_flags;
    body += sizeof address;
    len -= sizeof address;
    for (const struct attribute *one; (one = next(&body, &len));) {
        const unsigned char *value = (const unsigned char *)(one + 1);
        size_t size = one->len - sizeof *one;
        struct ifaddrs *public = &entry->public;
        if (one->kind == LABEL)
            named(entry, value, size);
        // Of a line between two the first is the other's.
        if (one->kind == LOCAL || (one->kind == ADDRESS && !public->ifa_addr))
            public->ifa_addr =
                placed(&entry->address, address.family, value, size, address.index);
        if (one->kind == BROADCAST)
            public->ifa_broadaddr =
                placed(&entry->other, address.family, value, size, address.index);
    }
    entry->public.ifa_netmask = masked(&entry->mask, address.family, address.prefix);
    return true;
}

// Goes through a piece of the answer: 1 when there is more to come, 0 at the end.
static int taken(struct list *list, const unsigned char *bytes, size_t len, uint32_t number) {
    struct header head;
    while (len >= sizeof head) {
        memcpy(&head, bytes, sizeof head);
        if (head.len < sizeof head || head.len > len)
            break;
        const unsigned char *body = bytes + sizeof head;
        size_t size = head.len - sizeof head;
        bool added = true;
        if (head.number == number) {
            if (head.kind == DONE)
                return 0;
            if (head.kind == ERROR) {
                int32_t negated = 0;
                memcpy(&negated, body, size < sizeof negated ? size : sizeof negated);
                errno = negated < 0 ? -negated : EIO;
                return -1;
            }
            if (head.kind == NEW_LINK)
                added = add_link(list, body, size);
            if (head.kind == NEW_ADDRESS)
                added = add_address(list, body, size);
        }
        if (!added)
            return -1;
        size_t whole = (head.len + 3u) & ~3u;
        whole = whole < len ? whole : len;
        bytes += whole;
        len -= whole;
    }
    return 1;
}

static int asked(int fd, struct list *list, uint16_t what, uint32_t number) {
    struct {
        struct header head;
        struct link all;
    } request = {.head = {.len = sizeof request,
                          .kind = what,
                          .flags = IS_REQUEST | DUMPS,
                          .number = number}};
    enum { ROOM = 32768 };
    unsigned char *room = malloc(ROOM);
    int more = room ? 1 : -1;
    // To nobody is to the kernel.
    if (more > 0 && send(fd, &request, sizeof request, 0) < 0)
        more = -1;
    while (more > 0) {
        ssize_t len = recv(fd, room, ROOM, 0);
        if (len < 0 && errno == EINTR)
            continue;
        more = len < 0 ? -1 : taken(list, room, (size_t)len, number);
    }
    free(room);
    return more;
}

int getifaddrs(struct ifaddrs **out) {
    struct list list = {NULL, NULL};
    *out = NULL;
    int fd = socket(FAMILY_NETLINK, KIND_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int result = asked(fd, &list, GET_LINK, 1);
    if (result == 0)
        result = asked(fd, &list, GET_ADDRESS, 2);
    int kept = errno;
    close(fd);
    errno = kept;
    if (result < 0)
        freeifaddrs(&list.first->public);
    else if (list.first)
        *out = &list.first->public;
    return result;
}

void freeifaddrs(struct ifaddrs *list) {
    while (list) {
        struct ifaddrs *after = list->ifa_next;
        free((struct entry *)(void *)list);
        list = after;
    }
}

// Both answer nothing where there is no such interface.
unsigned if_nametoindex(const char *name) {
    struct ifaddrs *all;
    unsigned index = 0;
    if (getifaddrs(&all))
        return 0;
    for (struct ifaddrs *one = all; one && !index; one = one->ifa_next)
        if (!strcmp(one->ifa_name, name))
            index = ((struct entry *)(void *)one)->index;
    freeifaddrs(all);
    if (!index)
        errno = ENODEV;
    return index;
}

char *if_indextoname(unsigned index, char *name) {
    struct ifaddrs *all, *one;
    if (getifaddrs(&all))
        return NULL;
    for (one = all; one && ((struct entry *)(void *)one)->index != index;)
        one = one->ifa_next;
    if (one)
        memcpy(name, one->ifa_name, IF_NAMESIZE);
    freeifaddrs(all);
    if (one)
        return name;
    errno = ENXIO;
    return NULL;
}
