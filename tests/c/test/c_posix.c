// What programs expect of POSIX beside what c_tour goes through. Says where it went wrong, or
// "c posix done".
//
//     c_posix FOLDER [PART]

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILS(call, number) CHECK((call) == -1 && errno == (number))

static void owners(void) {
    uid_t user = geteuid();
    gid_t group = getegid();
    int fd = open("owned.txt", O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && symlink("nowhere", "dangling") == 0);
    CHECK(fchown(fd, user, group) == 0 && fchown(fd, (uid_t)-1, (gid_t)-1) == 0);
    CHECK(fchownat(AT_FDCWD, "owned.txt", user, group, 0) == 0);
    FAILS(fchownat(AT_FDCWD, "dangling", user, group, 0), ENOENT);
    CHECK(fchownat(AT_FDCWD, "dangling", user, group, AT_SYMLINK_NOFOLLOW) == 0);
    FAILS(fchownat(AT_FDCWD, "owned.txt", user, group, 0x10), EINVAL);
    FAILS(fchownat(fd, "owned.txt", user, group, 0), ENOTDIR);
    FAILS(fchownat(-1, "owned.txt", user, group, 0), EBADF);
    FAILS(fchown(-1, user, group), EBADF);
    struct stat facts;
    CHECK(fstat(fd, &facts) == 0 && facts.st_uid == user && facts.st_gid == group);
    CHECK(close(fd) == 0 && unlink("owned.txt") == 0 && unlink("dangling") == 0);
}

static void names(void) {
    char found[4096], here[4096], wanted[4096 + 16];
    CHECK(getcwd(here, sizeof here) && mkdir("place", 0700) == 0);
    CHECK(symlink("place/../place/.", "way") == 0 && symlink("round", "round") == 0);
    CHECK(close(open("place/file", O_WRONLY | O_CREAT, 0600)) == 0);
    snprintf(wanted, sizeof wanted, "%s/place/file", here);
    CHECK(realpath("way//./../place/file", found) == found && !strcmp(found, wanted));
    char *own = realpath("way/file", NULL);
    CHECK(own && !strcmp(own, wanted));
    free(own);
    CHECK(realpath("/", found) && !strcmp(found, "/") && realpath("/..", found));
    CHECK(!strcmp(found, "/"));
    CHECK(!realpath("place/none", found) && errno == ENOENT);
    CHECK(!realpath("place/file/", found) && errno == ENOTDIR);
    CHECK(!realpath("place/file/..", found) && errno == ENOTDIR);
    CHECK(!realpath("round", found) && errno == ELOOP);
    CHECK(!realpath("", found) && errno == ENOENT);
    CHECK(!realpath(NULL, found) && errno == EINVAL);
    memset(here, 'a', sizeof here - 1);
    here[sizeof here - 1] = 0;
    CHECK(!realpath(here, found) && errno == ENAMETOOLONG);
    CHECK(unlink("way") == 0 && unlink("round") == 0);
    CHECK(unlink("place/file") == 0 && rmdir("place") == 0);

    char folder[] = "made-XXXXXX", file[] = "file-XXXXXX", wrong[] = "file-XXXXX";
    struct stat facts;
    CHECK(mkdtemp(folder) == folder && stat(folder, &facts) == 0 && S_ISDIR(facts.st_mode));
    CHECK((facts.st_mode & 0777) == 0700 && rmdir(folder) == 0);
    int fd = mkostemp(file, O_APPEND | O_CLOEXEC);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFL) & O_APPEND);
    CHECK(!mkdtemp(wrong) && errno == EINVAL);
    CHECK(write(fd, "content", 7) == 7);
    CHECK(renameat2(AT_FDCWD, file, AT_FDCWD, "other", 0) == 0);
    CHECK(close(open(file, O_WRONLY | O_CREAT, 0600)) == 0);
    FAILS(renameat2(AT_FDCWD, file, AT_FDCWD, "other", RENAME_NOREPLACE), EEXIST);
    CHECK(unlink(file) == 0);

    CHECK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0);
    FAILS(sync_file_range(-1, 0, 0, 0), EBADF);
    off_t from = 0;
    int to = open("copy", O_RDWR | O_CREAT, 0600);
    ssize_t copied = copy_file_range(open("other", O_RDONLY), &from, to, NULL, 7, 0);
    // A grate that seals or redacts does not copy, and programs do by themselves.
    CHECK(copied == 7 ? from == 7 : errno == EXDEV);
    FAILS(copy_file_range(-1, NULL, to, NULL, 7, 0), EBADF);
    CHECK(close(fd) == 0 && close(to) == 0 && unlink("other") == 0 && unlink("copy") == 0);

    // By folders' descriptors, which Lind has no calls for.
    int here_fd = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(here_fd >= 0 && mkdirat(AT_FDCWD, "below", 0700) == 0);
    if (mkdirat(here_fd, "below/deep", 0700) == 0) {
        int below = open("below", O_RDONLY | O_DIRECTORY);
        CHECK(stat("below/deep", &facts) == 0 && S_ISDIR(facts.st_mode));
        FAILS(mkdirat(below, "deep", 0700), EEXIST);
        CHECK(close(open("below/one", O_WRONLY | O_CREAT, 0600)) == 0);
        CHECK(linkat(below, "one", here_fd, "two", 0) == 0 && unlink("two") == 0);
        FAILS(linkat(below, "none", here_fd, "two", 0), ENOENT);
        CHECK(close(below) == 0 && unlink("below/one") == 0 && rmdir("below/deep") == 0);
    } else {
        CHECK(errno == ENOSYS);
        FAILS(linkat(here_fd, "none", here_fd, "two", 0), ENOSYS);
    }
    FAILS(linkat(AT_FDCWD, "none", AT_FDCWD, "two", 0), ENOENT);
    CHECK(close(here_fd) == 0 && rmdir("below") == 0);

    CHECK(mkfifo("pipe", 0600) == 0 && stat("pipe", &facts) == 0 && S_ISFIFO(facts.st_mode));
    FAILS(mkfifo("pipe", 0600), EEXIST);
    FAILS(mknod("device", S_IFCHR | 0600, 0x103), EPERM);
    CHECK(unlink("pipe") == 0);

    struct statvfs disk;
    CHECK(statvfs(".", &disk) == 0 && disk.f_frsize > 0 && disk.f_blocks >= disk.f_bavail);
    CHECK(disk.f_namemax >= 255 - 1);
    FAILS(statvfs("none", &disk), ENOENT);
    FAILS(fstatvfs(-1, &disk), EBADF);
}

static void limits(void) {
    struct rlimit limit, same;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(limit.rlim_cur >= 64 && limit.rlim_cur <= limit.rlim_max);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    same = limit;
    same.rlim_cur--;
    FAILS(setrlimit(RLIMIT_NOFILE, &same), EPERM);
    same.rlim_cur = same.rlim_max + 1;
    FAILS(setrlimit(RLIMIT_NOFILE, &same), EINVAL);
    CHECK(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_max == RLIM_INFINITY);
    FAILS(getrlimit(99, &limit), EINVAL);
}

static volatile sig_atomic_t heard;
static void hear(int signal) { heard += signal == SIGUSR1; }

static void waiting(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pollfd polls = {ends[0], POLLIN, 0};
    struct timespec none = {0, 0}, wrong = {0, 1000000000}, hour = {3600, 0}, soon = {0, 1};
    sigset_t empty, usr1;
    sigemptyset(&empty);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    CHECK(ppoll(&polls, 1, &none, NULL) == 0 && ppoll(&polls, 1, &soon, &empty) == 0);
    FAILS(ppoll(&polls, 1, &wrong, NULL), EINVAL);
    wrong.tv_nsec = -1;
    FAILS(ppoll(&polls, 1, &wrong, &empty), EINVAL);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CHECK(pselect(ends[0] + 1, &set, NULL, NULL, &none, NULL) == 0 && !FD_ISSET(ends[0], &set));
    FD_SET(ends[0], &set);
    FAILS(pselect(ends[0] + 1, &set, NULL, NULL, &wrong, &empty), EINVAL);
    FAILS(pselect(-1, NULL, NULL, NULL, &none, NULL), EINVAL);
    CHECK(pselect(0, NULL, NULL, NULL, &soon, NULL) == 0);

    // What is held back comes while it waits, and not before.
    struct sigaction action = {.sa_handler = hear};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(sigprocmask(SIG_BLOCK, &usr1, NULL) == 0 && raise(SIGUSR1) == 0 && heard == 0);
    CHECK(ppoll(&polls, 1, &none, &usr1) == 0 && heard == 0);
    FAILS(ppoll(&polls, 1, &hour, &empty), EINTR);
    CHECK(heard == 1 && raise(SIGUSR1) == 0 && heard == 1);
    FD_SET(ends[0], &set);
    FAILS(pselect(ends[0] + 1, &set, NULL, NULL, NULL, &empty), EINTR);
    CHECK(heard == 2 && sigprocmask(SIG_UNBLOCK, &usr1, NULL) == 0 && heard == 2);

    CHECK(write(ends[1], "x", 1) == 1);
    CHECK(ppoll(&polls, 1, NULL, &empty) == 1 && polls.revents == POLLIN);
    FD_SET(ends[0], &set);
    CHECK(pselect(ends[0] + 1, &set, NULL, NULL, &hour, &empty) == 1 && FD_ISSET(ends[0], &set));
    close(ends[0]), close(ends[1]);
    CHECK(ppoll(&polls, 1, NULL, NULL) == 1 && polls.revents == POLLNVAL);
}

// What cages have in common, each part of it kept by the mutex.
struct shared {
    pthread_mutex_t plain, again;
    pthread_cond_t changed;
    int first, second, stage;
};
enum { CHILDREN = 3, ROUNDS = 200 };

static void prepare(struct shared *shared) {
    pthread_mutexattr_t how;
    pthread_condattr_t when;
    CHECK(pthread_mutexattr_init(&how) == 0 && pthread_condattr_init(&when) == 0);
    CHECK(pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutexattr_setpshared(&how, 7) == EINVAL);
    CHECK(pthread_condattr_setpshared(&when, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutex_init(&shared->plain, &how) == 0);
    CHECK(pthread_mutexattr_settype(&how, PTHREAD_MUTEX_RECURSIVE) == 0);
    CHECK(pthread_mutex_init(&shared->again, &how) == 0);
    CHECK(pthread_cond_init(&shared->changed, &when) == 0);
    CHECK(pthread_mutexattr_destroy(&how) == 0 && pthread_condattr_destroy(&when) == 0);
}

static void take_turns(struct shared *shared) {
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(pthread_mutex_lock(&shared->plain) == 0);
        int first = shared->first;
        CHECK(first == shared->second);
        shared->first = first + 1;
        sched_yield();
        shared->second = first + 1;
        CHECK(pthread_mutex_unlock(&shared->plain) == 0);
    }
}

static void stage(struct shared *shared, int next) {
    CHECK(pthread_mutex_lock(&shared->plain) == 0);
    shared->stage = next;
    CHECK(pthread_cond_broadcast(&shared->changed) == 0);
    CHECK(pthread_mutex_unlock(&shared->plain) == 0);
}

static void await(struct shared *shared, int wanted) {
    CHECK(pthread_mutex_lock(&shared->plain) == 0);
    while (shared->stage < wanted)
        CHECK(pthread_cond_wait(&shared->changed, &shared->plain) == 0);
    CHECK(pthread_mutex_unlock(&shared->plain) == 0);
}

static void contend(struct shared *shared) {
    prepare(shared);
    fflush(NULL);
    pid_t children[CHILDREN];
    int status;
    for (int i = 0; i < CHILDREN; i++)
        if ((children[i] = fork()) == 0) {
            take_turns(shared);
            _exit(0);
        }
    take_turns(shared);
    for (int i = 0; i < CHILDREN; i++)
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
    CHECK(shared->first == (CHILDREN + 1) * ROUNDS && shared->second == shared->first);

    // A child is another holder than its parent, wherever its thread-locals lie.
    CHECK(pthread_mutex_lock(&shared->again) == 0 && pthread_mutex_lock(&shared->again) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct timespec past = {1, 0};
        CHECK(pthread_mutex_trylock(&shared->again) == EBUSY);
        CHECK(pthread_mutex_timedlock(&shared->again, &past) == ETIMEDOUT);
        CHECK(pthread_mutex_unlock(&shared->again) == EPERM);
        stage(shared, 1);
        struct timespec later = {time(NULL) + 3600, 0};
        CHECK(pthread_mutex_timedlock(&shared->again, &later) == 0);
        CHECK(pthread_mutex_unlock(&shared->again) == 0);
        _exit(0);
    }
    await(shared, 1);
    CHECK(pthread_mutex_unlock(&shared->again) == 0 && pthread_mutex_unlock(&shared->again) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void sharing(void) {
    int flags = MAP_SHARED | MAP_ANONYMOUS;
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    CHECK(mapped != MAP_FAILED);
    contend(mapped);
    CHECK(munmap(mapped, 4096) == 0);

    key_t key = ftok(".", 'm');
    CHECK(key != -1 && key == ftok(".", 'm') && key != ftok(".", 'n'));
    CHECK(ftok("none", 'm') == -1 && errno == ENOENT);
    FAILS(shmget(key, 4096, 0600), ENOENT);
    int segment = shmget(key, sizeof(struct shared), IPC_CREAT | IPC_EXCL | 0600);
    CHECK(segment >= 0 && shmget(key, 0, 0600) == segment);
    FAILS(shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
    struct shared *attached = shmat(segment, NULL, 0);
    CHECK(attached != (void *)-1);
    struct shmid_ds facts;
    CHECK(shmctl(segment, IPC_STAT, &facts) == 0 && facts.shm_nattch == 1);
    CHECK(facts.shm_segsz == sizeof(struct shared) && facts.shm_cpid == getpid());
    CHECK(facts.shm_perm.key == key && (facts.shm_perm.mode & 0777) == 0600);
    contend(attached);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0 && shmdt(attached) == 0);
    FAILS(shmdt(attached), EINVAL);
    CHECK(shmat(segment, NULL, 0) == (void *)-1 && errno == EINVAL);
}

static void interfaces(void) {
    struct ifaddrs *all, *one;
    CHECK(getifaddrs(&all) == 0 && all);
    int links = 0, addresses = 0;
    for (one = all; one; one = one->ifa_next) {
        CHECK(one->ifa_name && *one->ifa_name);
        if (!one->ifa_addr || !(one->ifa_flags & IFF_LOOPBACK))
            continue;
        CHECK(one->ifa_flags & IFF_UP);
        if (one->ifa_addr->sa_family != AF_INET) {
            links += one->ifa_addr->sa_family == 17 && !strcmp(one->ifa_name, "lo");
            continue;
        }
        struct sockaddr_in *address = (struct sockaddr_in *)one->ifa_addr;
        struct sockaddr_in *mask = (struct sockaddr_in *)one->ifa_netmask;
        if (address->sin_addr.s_addr == htonl(INADDR_LOOPBACK)) {
            CHECK(mask && mask->sin_family == AF_INET);
            CHECK(mask->sin_addr.s_addr == htonl(0xff000000));
            addresses++;
        }
    }
    CHECK(links == 1 && addresses == 1);
    freeifaddrs(all);
    freeifaddrs(NULL);
    char name[IF_NAMESIZE];
    unsigned index = if_nametoindex("lo");
    CHECK(index && if_indextoname(index, name) == name && !strcmp(name, "lo"));
    CHECK(!if_nametoindex("no such one") && errno == ENODEV);
    CHECK(!if_indextoname(0, name) && errno == ENXIO);
}

int main(int argc, char *argv[]) {
    if (argc > 2 && !strcmp(argv[2], "unserved")) {
        // Where a runtime lacks a call, or the network.
        struct ifaddrs *none;
        FAILS(chroot("/"), ENOSYS);
        FAILS(getifaddrs(&none), EACCES);
        CHECK(!none);
        puts("c posix done");
        return 0;
    }
    CHECK(argc > 1 && chdir(argv[1]) == 0);
    static const struct {
        const char *name;
        void (*work)(void);
    } parts[] = {{"owners", owners},   {"names", names},     {"limits", limits},
                 {"waiting", waiting}, {"sharing", sharing}, {"interfaces", interfaces}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (argc > 2 && strcmp(argv[2], parts[i].name))
            continue;
        fprintf(stderr, "%s\n", parts[i].name);
        parts[i].work();
    }
    puts("c posix done");
    return 0;
}
