// Directories, whose entries are as the kernel has them. The libc's functions of these names have
// WASI's.

#ifndef LIND_DIRENT_H
#define LIND_DIRENT_H

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DT_UNKNOWN 0
#define DT_FIFO 1
#define DT_CHR 2
#define DT_DIR 4
#define DT_BLK 6
#define DT_REG 8
#define DT_LNK 10
#define DT_SOCK 12

struct dirent {
    ino_t d_ino;
    off_t d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[256];
};

typedef struct __lind_dir DIR;

DIR *opendir(const char *) __asm__("__lind_opendir");
DIR *fdopendir(int) __asm__("__lind_fdopendir");
struct dirent *readdir(DIR *) __asm__("__lind_readdir");
int closedir(DIR *) __asm__("__lind_closedir");
void rewinddir(DIR *) __asm__("__lind_rewinddir");
void seekdir(DIR *, long) __asm__("__lind_seekdir");
long telldir(DIR *) __asm__("__lind_telldir");
int dirfd(DIR *) __asm__("__lind_dirfd");
int scandir(const char *, struct dirent ***, int (*)(const struct dirent *),
            int (*)(const struct dirent **, const struct dirent **)) __asm__("__lind_scandir");
int alphasort(const struct dirent **, const struct dirent **) __asm__("__lind_alphasort");

#ifdef __cplusplus
}
#endif

#endif
