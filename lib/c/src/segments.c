// System V's shared memory.

#include "lind.h"

#include <sys/shm.h>
#include <sys/stat.h>

_Static_assert(sizeof(struct shmid_ds) == 80, "as Lind has it");

int shmget(key_t key, size_t size, int flags) {
    return __lind_answer(lind(NR_SHMGET, num(key), size, num(flags)));
}

// Where it is to be and where it comes are offsets, without the base; what is given up is named by
// an address.
void *shmat(int segment, const void *where, int flags) {
    int32_t result = lind(NR_SHMAT, num(segment), (uintptr_t)where, num(flags));
    return (void *)(uintptr_t)__lind_answer(result);
}

int shmdt(const void *where) {
    return __lind_answer(lind(NR_SHMDT, __lind_base() + (uintptr_t)where));
}

int shmctl(int segment, int command, struct shmid_ds *facts) {
    return __lind_answer(lind(NR_SHMCTL, num(segment), num(command), at(facts)));
}

key_t ftok(const char *path, int project) {
    struct stat facts;
    if (stat(path, &facts))
        return -1;
    unsigned key = (unsigned)project << 24 | ((unsigned)facts.st_dev & 0xff) << 16;
    return (key_t)(key | ((unsigned)facts.st_ino & 0xffff));
}
