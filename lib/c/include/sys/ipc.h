// What System V's objects are found by.

#ifndef LIND_SYS_IPC_H
#define LIND_SYS_IPC_H

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IPC_CREAT 01000
#define IPC_EXCL 02000
#define IPC_NOWAIT 04000

#define IPC_PRIVATE 0
#define IPC_RMID 0
#define IPC_SET 1
#define IPC_STAT 2

typedef int key_t;

struct ipc_perm {
    key_t key;
    uid_t uid;
    gid_t gid;
    uid_t cuid;
    gid_t cgid;
    unsigned short mode, seq;
};

key_t ftok(const char *, int);

#ifdef __cplusplus
}
#endif

#endif
