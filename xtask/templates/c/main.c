// Says 10 to every geteuid of the programs under it.
//
//     lind-wasm NAME.cwasm PROGRAM ARGS...

#include <lind_syscall.h>
#include <stdio.h>

enum { GETEUID = 107 };

// A handler: the grate's own id, then the six arguments of the call, each with the cage that it
// belongs to. What it answers is what the program gets; an error is a negated errno of Linux.
// To pass the call on instead, with `cage` the one that made it:
//
//     return make_threei_call(GETEUID, 0, grate, cage, a1, a1cage, ..., a6, a6cage, 0);
static int on_geteuid(uint64_t grate, uint64_t a1, uint64_t a1cage, uint64_t a2, uint64_t a2cage,
                      uint64_t a3, uint64_t a3cage, uint64_t a4, uint64_t a4cage, uint64_t a5,
                      uint64_t a5cage, uint64_t a6, uint64_t a6cage) {
    return 10;
}

int main(int argc, char *argv[]) {
    if (argc < 2)
        return fprintf(stderr, "usage: NAME PROGRAM ARGS...\n"), 64;
    uint64_t grate = lind_get_cage_id();
    if (fork() == 0) {
        register_handler(getpid(), GETEUID, grate, (uint64_t)(uintptr_t)&on_geteuid);
        execv(argv[1], &argv[1]);
        perror(argv[1]);
        _exit(1);
    }
    // A grate must outlive its programs.
    int status = 1 << 8;
    wait(&status);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
