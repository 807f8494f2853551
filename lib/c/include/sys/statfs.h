// Facts of a file system, which WASI does not have; laid out as Lind's runtime has them.

#ifndef LIND_SYS_STATFS_H
#define LIND_SYS_STATFS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct statfs {
    uint64_t f_type, f_bsize;
    uint64_t f_blocks, f_bfree, f_bavail;
    uint64_t f_files, f_ffree;
    uint64_t f_fsid, f_namelen, f_frsize;
    uint64_t f_flags, f_spare[3];
};

int statfs(const char *, struct statfs *);
int fstatfs(int, struct statfs *);

#ifdef __cplusplus
}
#endif

#endif
