// Processes.

#include "lind.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void __wasilibc_ensure_environ(void);

pid_t fork(void) {
    static const uint64_t clone_args[11];
    // A child has but the thread that calls: what another one holds nobody would give back.
    __lind_hold_heap();
    int32_t pid = __lind_unwinding(NR_CLONE, at(clone_args), UNUSED, UNUSED);
    if (pid == 0) {
        __lind_renew();
        __lind_renew_streams();
    }
    __lind_give_heap();
    return __lind_answer(pid);
}

pid_t vfork(void) { return fork(); }

// The addresses of strings and a 0 behind them.
static uint64_t *addresses(char *const strings[]) {
    size_t count = 0;
    while (strings && strings[count])
        count++;
    uint64_t *array = calloc(count + 1, sizeof *array);
    for (size_t i = 0; array && i < count; i++)
        array[i] = at(strings[i]);
    return array;
}

int execve(const char *path, char *const argv[], char *const envp[]) {
    uint64_t *args = addresses(argv);
    uint64_t *env = addresses(envp);
    int32_t result = -12;
    if (args && env)
        result = __lind_unwinding(NR_EXECVE, at(path), at(args), at(env));
    free(args);
    free(env);
    // It does not come back from a success.
    return __lind_answer(result < 0 ? result : -5);
}

int execv(const char *path, char *const argv[]) {
    __wasilibc_ensure_environ();
    return execve(path, argv, environ);
}

int execvpe(const char *file, char *const argv[], char *const envp[]) {
    const char *path = getenv("PATH");
    if (strchr(file, '/') || !path || !*file)
        return execve(file, argv, envp);
    int seen = 0;
    for (const char *from = path;; from++) {
        size_t len = strcspn(from, ":");
        size_t room = len + strlen(file) + 2;
        char *full = malloc(room);
        if (!full)
            return -1;
        memcpy(full, from, len);
        strcpy(full + len, len ? "/" : "");
        strcat(full, file);
        execve(full, argv, envp);
        free(full);
        if (errno == EACCES)
            seen = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR)
            return -1;
        from += len;
        if (!*from)
            break;
    }
    // Without a folder in front too: Lind takes a name for a path below the root.
    if (seen)
        errno = seen;
    return -1;
}

int execvp(const char *file, char *const argv[]) {
    __wasilibc_ensure_environ();
    return execvpe(file, argv, environ);
}

// The arguments of execl and its kin, on the heap, with the null at their end.
static char **listed(const char *first, va_list *rest) {
    va_list counted;
    va_copy(counted, *rest);
    size_t count = first != NULL;
    while (first && va_arg(counted, char *))
        count++;
    va_end(counted);
    char **argv = calloc(count + 1, sizeof *argv);
    if (!argv || !first)
        return argv;
    argv[0] = (char *)first;
    for (size_t i = 1; i <= count; i++)
        argv[i] = va_arg(*rest, char *);
    return argv;
}

int execl(const char *path, const char *first, ...) {
    va_list rest;
    va_start(rest, first);
    char **argv = listed(first, &rest);
    va_end(rest);
    int result = argv ? execv(path, argv) : -1;
    free(argv);
    return result;
}

int execlp(const char *file, const char *first, ...) {
    va_list rest;
    va_start(rest, first);
    char **argv = listed(first, &rest);
    va_end(rest);
    int result = argv ? execvp(file, argv) : -1;
    free(argv);
    return result;
}

int execle(const char *path, const char *first, ...) {
    va_list rest;
    va_start(rest, first);
    char **argv = listed(first, &rest);
    char **envp = va_arg(rest, char **);
    va_end(rest);
    int result = argv ? execve(path, argv, envp) : -1;
    free(argv);
    return result;
}

pid_t waitpid(pid_t pid, int *status, int options) {
    int code = 0;
    int32_t result;
    // Lind takes an ending child out of the count of children before it can be waited for.
    int tries = __lind_base() ? 20 : 1;
    while ((result = lind(NR_WAITPID, num(pid), at(&code), num(options))) == -10 && --tries)
        usleep(1000);
    if (result > 0 && status)
        *status = code;
    return __lind_answer(result);
}

pid_t wait(int *status) { return waitpid(-1, status, 0); }

// Of no argument, and never an error.
#define ASKED(type, name, nr)                                                                      \
    type name(void) { return (type)lind(nr); }
ASKED(pid_t, getpid, NR_GETPID)
ASKED(pid_t, getppid, NR_GETPPID)
ASKED(uid_t, getuid, NR_GETUID)
ASKED(uid_t, geteuid, NR_GETEUID)
ASKED(gid_t, getgid, NR_GETGID)
ASKED(gid_t, getegid, NR_GETEGID)

pid_t getpgid(pid_t pid) { return __lind_answer(lind(NR_GETPGID, num(pid))); }
pid_t getpgrp(void) { return getpgid(0); }
int getpagesize(void) { return 4096; }

int gethostname(char *name, size_t len) {
    return __lind_answer(lind(NR_GETHOSTNAME, at(name), len));
}

// Each number has 32 bits there, of which all say that there is no limit.
static rlim_t limit(uint32_t told) { return told == UINT32_MAX ? RLIM_INFINITY : told; }

int getrlimit(int resource, struct rlimit *limits) {
    uint32_t told[2];
    int32_t result = lind(NR_PRLIMIT64, 0, num(resource), 0, at(told));
    if (!is_error(result))
        *limits = (struct rlimit){limit(told[0]), limit(told[1])};
    return __lind_answer(result);
}

// Lind ends the run of who asks for it.
int setrlimit(int resource, const struct rlimit *limits) {
    struct rlimit now;
    if (getrlimit(resource, &now))
        return -1;
    if (limits->rlim_cur == now.rlim_cur && limits->rlim_max == now.rlim_max)
        return 0;
    errno = limits->rlim_cur > limits->rlim_max ? EINVAL : EPERM;
    return -1;
}
