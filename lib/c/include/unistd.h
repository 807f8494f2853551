// What WASI does not have of it.

#define _WASI_EMULATED_GETPID
#include_next <unistd.h>

#ifndef LIND_UNISTD_H
#define LIND_UNISTD_H

#ifdef __cplusplus
extern "C" {
#endif

extern char **environ;

pid_t fork(void);
pid_t vfork(void);
int execv(const char *, char *const[]);
int execve(const char *, char *const[], char *const[]);
int execvp(const char *, char *const[]);
int execvpe(const char *, char *const[], char *const[]);
int execl(const char *, const char *, ...);
int execle(const char *, const char *, ...);
int execlp(const char *, const char *, ...);

pid_t getppid(void);
pid_t getpgrp(void);
pid_t getpgid(pid_t);
pid_t gettid(void);
uid_t getuid(void);
uid_t geteuid(void);
gid_t getgid(void);
gid_t getegid(void);

int pipe(int[2]);
int pipe2(int[2], int);
int dup(int);
int dup2(int, int);
int dup3(int, int, int);
int lockf(int, int, off_t);

int chown(const char *, uid_t, gid_t);
int lchown(const char *, uid_t, gid_t);
int fchown(int, uid_t, gid_t);
int fchownat(int, const char *, uid_t, gid_t, int);
int chroot(const char *);
ssize_t copy_file_range(int, off_t *, int, off_t *, size_t, unsigned);
int fchdir(int);
int getpagesize(void);

unsigned alarm(unsigned);
int pause(void);

#ifdef __cplusplus
}
#endif

#endif
