// System V's shared memory, laid out as Lind has it.

#ifndef LIND_SYS_SHM_H
#define LIND_SYS_SHM_H

#include <stddef.h>
#include <sys/ipc.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHM_RDONLY 010000
#define SHM_RND 020000
#define SHM_REMAP 040000
#define SHMLBA 4096

typedef unsigned shmatt_t;

struct shmid_ds {
    struct ipc_perm shm_perm;
    unsigned __places[3];
    unsigned shm_segsz;
    long long shm_atime, shm_dtime, shm_ctime;
    pid_t shm_cpid, shm_lpid;
    shmatt_t shm_nattch;
    unsigned __end;
};

int shmget(key_t, size_t, int);
void *shmat(int, const void *, int);
int shmdt(const void *);
int shmctl(int, int, struct shmid_ds *);

#ifdef __cplusplus
}
#endif

#endif
