// Threads, by `clone`, which comes back in both with one memory and two stacks.
//
// A thread has one mapping: its stack, its thread-locals above that, and a `struct __pthread` at
// the end. The kernel writes its number into that and clears it at its end, which is what
// pthread_join waits for. Lind's does not clear it: there the thread does so itself, as the last
// thing before its end, and its mapping is kept, as it may still be ending.

#include "lind.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>

struct __pthread {
    // 0 once it has ended.
    _Atomic int number;
    _Atomic bool detached;
    void *(*start)(void *);
    void *argument;
    void *result;
    char *block;
    size_t len;
};

enum { PAGE = 4096, STACK = 1 << 20 };

static _Thread_local struct __pthread *self;
static struct __pthread first;

void __wasm_init_tls(void *block);
static void run_destructors(void);

// ---- their life

pthread_t pthread_self(void) { return (pthread_t)(uintptr_t)(self ? self : &first); }
int pthread_equal(pthread_t a, pthread_t b) { return a == b; }

struct attributes {
    size_t stack;
    int detached;
};
_Static_assert(sizeof(struct attributes) <= sizeof(pthread_attr_t), "room");

static struct attributes *in(pthread_attr_t *attributes) { return (void *)attributes; }

int pthread_attr_init(pthread_attr_t *attributes) {
    *in(attributes) = (struct attributes){STACK, PTHREAD_CREATE_JOINABLE};
    return 0;
}

int pthread_attr_destroy(pthread_attr_t *attributes) {
    (void)attributes;
    return 0;
}

int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size) {
    if (size < PTHREAD_STACK_MIN)
        return EINVAL;
    in(attributes)->stack = size;
    return 0;
}

int pthread_attr_getstacksize(const pthread_attr_t *attributes, size_t *size) {
    *size = in((pthread_attr_t *)attributes)->stack;
    return 0;
}

int pthread_attr_setdetachstate(pthread_attr_t *attributes, int detached) {
    if (detached != PTHREAD_CREATE_DETACHED && detached != PTHREAD_CREATE_JOINABLE)
        return EINVAL;
    in(attributes)->detached = detached;
    return 0;
}

int pthread_attr_getdetachstate(const pthread_attr_t *attributes, int *detached) {
    *detached = in((pthread_attr_t *)attributes)->detached;
    return 0;
}

// Where the thread-locals of one begin.
static char *tls_of(struct __pthread *thread) {
    size_t align = __builtin_wasm_tls_align();
    if (align < 16)
        align = 16;
    return (char *)(((uintptr_t)thread - __builtin_wasm_tls_size()) & ~(uintptr_t)(align - 1));
}

// Ends this thread, with nothing on the stack.
static inline __attribute__((always_inline)) _Noreturn void leave(uint64_t own) {
    __lind_unwinding_gate(NR_EXIT, 0, own, own, 0, own, 0, own, UNUSED, own, UNUSED, own, UNUSED,
                          own, UNUSED, own);
    __builtin_trap();
}

// Clears the number of a thread and ends it. On Lind, nothing here may lie on the stack once the
// number is cleared, for then that may be another thread's: the values of a call are no memory.
__attribute__((noinline)) static _Noreturn void end(_Atomic int *number, uint64_t own,
                                                    uint64_t base) {
    enum { WAKE = 1 };
    if (base) {
        __c11_atomic_store(number, 0, __ATOMIC_SEQ_CST);
        __lind_gate(NR_FUTEX, 0, own, own, base + (uintptr_t)number, own, WAKE, own, INT32_MAX, own,
                    0, own, 0, own, 0, own);
    }
    leave(own);
}

// Threads that have ended, as far as anybody has said that nobody waits for them, with their
// mappings: on Lind they are never unmapped, but used again.
static struct lind_lock left_lock;
static struct __pthread *left[256];

static void put_aside(struct __pthread *thread) {
    __lind_take(&left_lock);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        if (!left[i]) {
            left[i] = thread;
            break;
        }
    __lind_give(&left_lock);
}

// A mapping of that length, an old one if there is one.
static char *mapping(size_t len) {
    char *found = NULL;
    __lind_take(&left_lock);
    for (size_t i = 0; i < sizeof left / sizeof *left && !found; i++)
        if (left[i] && left[i]->len == len && left[i]->number == 0) {
            found = left[i]->block;
            left[i] = NULL;
        }
    __lind_give(&left_lock);
    if (found)
        return found;
    found = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return found == MAP_FAILED ? NULL : found;
}

static _Noreturn void finish(void *result) {
    run_destructors();
    self->result = result;
    end(&self->number, __lind_own(), __lind_base());
}

// What a new thread does, on its own stack.
__attribute__((noinline)) static _Noreturn void begin(struct __pthread *thread) {
    __wasm_init_tls(tls_of(thread));
    self = thread;
    __lind_own_errno();
    finish(thread->start(thread->argument));
}

// Makes the thread, which comes back here too, with a copy of this function's values and another
// stack: nothing here may lie on that.
__attribute__((noinline)) static int32_t set_out(uint64_t own, uint64_t arguments,
                                                 struct __pthread *thread) {
    int32_t number =
        __lind_unwinding_gate(NR_CLONE, 0, own, own, arguments, own, UNUSED, own, UNUSED, own,
                              UNUSED, own, UNUSED, own, UNUSED, own);
    if (number == 0)
        begin(thread);
    return number;
}

int pthread_create(pthread_t *restrict out, const pthread_attr_t *restrict attributes,
                   void *(*start)(void *), void *restrict argument) {
    // As glibc has them: memory, files, signals and the rest are one.
    const uint64_t flags = 0x3d0f00;
    struct attributes how = {STACK, PTHREAD_CREATE_JOINABLE};
    if (attributes)
        how = *in((pthread_attr_t *)attributes);
    size_t above = __builtin_wasm_tls_size() + __builtin_wasm_tls_align() + 32;
    above += sizeof(struct __pthread);
    if (how.stack > INT32_MAX)
        return EAGAIN;
    size_t len = (how.stack + above + PAGE - 1) & ~(size_t)(PAGE - 1);
    char *block = mapping(len);
    if (!block)
        return EAGAIN;
    struct __pthread *thread =
        (void *)((uintptr_t)(block + len - sizeof *thread) & ~(uintptr_t)15);
    thread->number = -1;
    thread->detached = how.detached == PTHREAD_CREATE_DETACHED;
    thread->start = start;
    thread->argument = argument;
    thread->result = NULL;
    thread->block = block;
    thread->len = len;
    uintptr_t top = (uintptr_t)tls_of(thread) & ~(uintptr_t)15;
    uint64_t number = at(&thread->number);
    uint64_t arguments[11] = {
        [0] = flags, [2] = number, [3] = number, [5] = top, [6] = top - (uintptr_t)block};
    // First, for the thread may be quick.
    *out = (pthread_t)(uintptr_t)thread;
    bool detached = thread->detached;
    int32_t made = set_out(__lind_own(), at(arguments), thread);
    if (made < 0) {
        munmap(block, len);
        return -made;
    }
    if (detached)
        put_aside(thread);
    return 0;
}

int pthread_join(pthread_t which, void **result) {
    struct __pthread *thread = (void *)(uintptr_t)which;
    if (thread == self)
        return EDEADLK;
    for (int number; (number = thread->number);)
        __lind_futex_wait(&thread->number, number);
    if (result)
        *result = thread->result;
    put_aside(thread);
    return 0;
}

int pthread_detach(pthread_t which) {
    struct __pthread *thread = (void *)(uintptr_t)which;
    if (__c11_atomic_exchange(&thread->detached, true, __ATOMIC_RELAXED))
        return EINVAL;
    put_aside(thread);
    return 0;
}

_Noreturn void pthread_exit(void *result) {
    if (self)
        finish(result);
    // The first one: the others go on, and the last one ends the program.
    run_destructors();
    leave(__lind_own());
}

int sched_yield(void) { return __lind_answer(lind(NR_SCHED_YIELD)); }

// ---- mutexes

struct mutex {
    struct lind_lock lock;
    int type;
    // The thread, and its cage: in memory that cages share, both have a thread of that mark.
    _Atomic(void *) holder;
    _Atomic unsigned cage;
    unsigned depth;
};
_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t), "room");

static struct mutex *of(pthread_mutex_t *mutex) { return (void *)mutex; }

// The address of it tells threads apart, those too that nobody here has made: a grate's workers.
static _Thread_local char mark;

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes) {
    *of(mutex) = (struct mutex){.type = attributes ? (int)attributes->__attr : 0};
    return 0;
}

int pthread_mutex_destroy(pthread_mutex_t *mutex) {
    (void)mutex;
    return 0;
}

int pthread_mutexattr_init(pthread_mutexattr_t *attributes) {
    attributes->__attr = PTHREAD_MUTEX_DEFAULT;
    return 0;
}

int pthread_mutexattr_destroy(pthread_mutexattr_t *attributes) {
    (void)attributes;
    return 0;
}

// A mutex, a condition and a lock of readers and writers work wherever they lie.
static int shared(int how) {
    return how == PTHREAD_PROCESS_PRIVATE || how == PTHREAD_PROCESS_SHARED ? 0 : EINVAL;
}

int pthread_mutexattr_setpshared(pthread_mutexattr_t *attributes, int how) {
    (void)attributes;
    return shared(how);
}

int pthread_condattr_init(pthread_condattr_t *attributes) {
    attributes->__attr = 0;
    return 0;
}

int pthread_condattr_destroy(pthread_condattr_t *attributes) {
    (void)attributes;
    return 0;
}

int pthread_condattr_setpshared(pthread_condattr_t *attributes, int how) {
    (void)attributes;
    return shared(how);
}

int pthread_rwlockattr_init(pthread_rwlockattr_t *attributes) {
    *attributes = (pthread_rwlockattr_t){.__attr = {0}};
    return 0;
}

int pthread_rwlockattr_destroy(pthread_rwlockattr_t *attributes) {
    (void)attributes;
    return 0;
}

int pthread_rwlockattr_setpshared(pthread_rwlockattr_t *attributes, int how) {
    (void)attributes;
    return shared(how);
}

int pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type) {
    if (type < PTHREAD_MUTEX_NORMAL || type > PTHREAD_MUTEX_ERRORCHECK)
        return EINVAL;
    attributes->__attr = (unsigned)type;
    return 0;
}

static bool is_own(struct mutex *mutex) {
    return mutex->holder == &mark && mutex->cage == (unsigned)__lind_own();
}

static void hold(struct mutex *mutex) {
    mutex->cage = (unsigned)__lind_own();
    mutex->holder = &mark;
}

// Whether the caller has it already, and what is to be answered then.
static bool is_held(struct mutex *mutex, int *answer) {
    if (mutex->type == PTHREAD_MUTEX_NORMAL || !is_own(mutex))
        return false;
    *answer = EDEADLK;
    if (mutex->type == PTHREAD_MUTEX_RECURSIVE) {
        mutex->depth++;
        *answer = 0;
    }
    return true;
}

int pthread_mutex_lock(pthread_mutex_t *which) {
    struct mutex *mutex = of(which);
    int answer = 0;
    if (!is_held(mutex, &answer)) {
        __lind_take(&mutex->lock);
        hold(mutex);
    }
    return answer;
}

int pthread_mutex_trylock(pthread_mutex_t *which) {
    struct mutex *mutex = of(which);
    int answer = 0, none = 0;
    if (is_held(mutex, &answer))
        return answer == EDEADLK ? EBUSY : answer;
    if (!__c11_atomic_compare_exchange_strong(&mutex->lock.state, &none, 1, __ATOMIC_ACQUIRE,
                                              __ATOMIC_RELAXED))
        return EBUSY;
    hold(mutex);
    return 0;
}

int pthread_mutex_unlock(pthread_mutex_t *which) {
    struct mutex *mutex = of(which);
    if (mutex->type != PTHREAD_MUTEX_NORMAL) {
        if (!is_own(mutex))
            return EPERM;
        if (mutex->depth) {
            mutex->depth--;
            return 0;
        }
    }
    mutex->holder = NULL;
    __lind_give(&mutex->lock);
    return 0;
}

// ---- conditions: a number that every signal changes

static _Atomic int *sequence(pthread_cond_t *condition) { return (void *)condition; }

int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes) {
    (void)attributes;
    *sequence(condition) = 0;
    return 0;
}

int pthread_cond_destroy(pthread_cond_t *condition) {
    (void)condition;
    return 0;
}

int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    int seen = *sequence(condition);
    pthread_mutex_unlock(mutex);
    __lind_futex_wait(sequence(condition), seen);
    return pthread_mutex_lock(mutex);
}

// How long it is until then, by the clock of the day. Whether it is to come.
static bool until(const struct timespec *end, struct kernel_time *left) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    left->seconds = end->tv_sec - now.tv_sec;
    left->nanoseconds = end->tv_nsec - now.tv_nsec;
    if (left->nanoseconds < 0) {
        left->nanoseconds += 1000000000;
        left->seconds--;
    }
    return left->seconds >= 0;
}

static bool waited_until(const volatile void *word, int value, const struct timespec *end) {
    enum { WAIT = 0, LINUX_ETIMEDOUT = 110 };
    struct kernel_time left;
    if (!until(end, &left))
        return false;
    return lind(NR_FUTEX, at(word), WAIT, num(value), at(&left), 0, 0) != -LINUX_ETIMEDOUT;
}

int pthread_mutex_timedlock(pthread_mutex_t *which, const struct timespec *end) {
    enum { AWAITED = 2 };
    struct mutex *mutex = of(which);
    int answer = 0;
    if (is_held(mutex, &answer))
        return answer;
    answer = pthread_mutex_trylock(which);
    if (answer != EBUSY)
        return answer;
    while (__c11_atomic_exchange(&mutex->lock.state, AWAITED, __ATOMIC_ACQUIRE) != 0)
        if (!waited_until(&mutex->lock.state, AWAITED, end))
            return ETIMEDOUT;
    hold(mutex);
    return 0;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *end) {
    int seen = *sequence(condition);
    pthread_mutex_unlock(mutex);
    bool came = waited_until(sequence(condition), seen, end);
    int result = pthread_mutex_lock(mutex);
    return came ? result : ETIMEDOUT;
}

static int changed(pthread_cond_t *condition, int count) {
    __c11_atomic_fetch_add(sequence(condition), 1, __ATOMIC_SEQ_CST);
    __lind_futex_wake(sequence(condition), count);
    return 0;
}

int pthread_cond_signal(pthread_cond_t *condition) { return changed(condition, 1); }
int pthread_cond_broadcast(pthread_cond_t *condition) { return changed(condition, INT32_MAX); }

// ---- locks of readers and writers

struct rwlock {
    struct lind_lock lock;
    // Readers; -1 for a writer.
    int users;
    _Atomic int changes;
};
_Static_assert(sizeof(struct rwlock) <= sizeof(pthread_rwlock_t), "room");

int pthread_rwlock_init(pthread_rwlock_t *which, const pthread_rwlockattr_t *attributes) {
    (void)attributes;
    *(struct rwlock *)(void *)which = (struct rwlock){.users = 0};
    return 0;
}

int pthread_rwlock_destroy(pthread_rwlock_t *which) {
    (void)which;
    return 0;
}

static int enter(pthread_rwlock_t *which, bool writes) {
    struct rwlock *lock = (void *)which;
    for (;;) {
        __lind_take(&lock->lock);
        int seen = lock->changes;
        bool free = writes ? lock->users == 0 : lock->users >= 0;
        if (free)
            lock->users += writes ? -1 : 1;
        __lind_give(&lock->lock);
        if (free)
            return 0;
        __lind_futex_wait(&lock->changes, seen);
    }
}

int pthread_rwlock_rdlock(pthread_rwlock_t *which) { return enter(which, false); }
int pthread_rwlock_wrlock(pthread_rwlock_t *which) { return enter(which, true); }

int pthread_rwlock_unlock(pthread_rwlock_t *which) {
    struct rwlock *lock = (void *)which;
    __lind_take(&lock->lock);
    lock->users += lock->users < 0 ? 1 : -1;
    lock->changes++;
    __lind_give(&lock->lock);
    __lind_futex_wake(&lock->changes, INT32_MAX);
    return 0;
}

// ---- what is done once, and what each thread has of its own

int pthread_once(pthread_once_t *once, void (*work)(void)) {
    enum { BEFORE, DURING, DONE };
    _Atomic int *state = (void *)once;
    int before = BEFORE;
    if (__c11_atomic_compare_exchange_strong(state, &before, DURING, __ATOMIC_SEQ_CST,
                                             __ATOMIC_SEQ_CST)) {
        work();
        *state = DONE;
        __lind_futex_wake(state, INT32_MAX);
    }
    while (*state != DONE)
        __lind_futex_wait(state, DURING);
    return 0;
}

static struct lind_lock keys_lock;
static bool keys_taken[PTHREAD_KEYS_MAX];
static void (*destructors[PTHREAD_KEYS_MAX])(void *);
static _Thread_local void *values[PTHREAD_KEYS_MAX];

int pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
    int result = EAGAIN;
    __lind_take(&keys_lock);
    for (unsigned i = 0; i < PTHREAD_KEYS_MAX && result; i++)
        if (!keys_taken[i]) {
            keys_taken[i] = true;
            destructors[i] = destructor;
            *key = i;
            result = 0;
        }
    __lind_give(&keys_lock);
    return result;
}

int pthread_key_delete(pthread_key_t key) {
    if (key >= PTHREAD_KEYS_MAX)
        return EINVAL;
    __lind_take(&keys_lock);
    keys_taken[key] = false;
    destructors[key] = NULL;
    __lind_give(&keys_lock);
    return 0;
}

void *pthread_getspecific(pthread_key_t key) {
    return key < PTHREAD_KEYS_MAX ? values[key] : NULL;
}

int pthread_setspecific(pthread_key_t key, const void *value) {
    if (key >= PTHREAD_KEYS_MAX)
        return EINVAL;
    values[key] = (void *)value;
    return 0;
}

// Until there is nothing to run them on, four times at most.
static void run_destructors(void) {
    bool ran = true;
    for (int rounds = 0; rounds < 4 && ran; rounds++) {
        ran = false;
        for (int i = 0; i < PTHREAD_KEYS_MAX; i++) {
            void *value = values[i];
            values[i] = NULL;
            if (value && destructors[i]) {
                destructors[i](value);
                ran = true;
            }
        }
    }
}

// ---- semaphores, also in memory that processes share

static _Atomic int *count_of(sem_t *semaphore) { return (void *)semaphore; }

int sem_init(sem_t *semaphore, int shared, unsigned value) {
    (void)shared;
    if (value > INT32_MAX) {
        errno = EINVAL;
        return -1;
    }
    *count_of(semaphore) = (int)value;
    return 0;
}

int sem_destroy(sem_t *semaphore) {
    (void)semaphore;
    return 0;
}

int sem_trywait(sem_t *semaphore) {
    int value = *count_of(semaphore);
    while (value > 0)
        if (__c11_atomic_compare_exchange_strong(count_of(semaphore), &value, value - 1,
                                                 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 0;
    errno = EAGAIN;
    return -1;
}

int sem_wait(sem_t *semaphore) {
    while (sem_trywait(semaphore))
        __lind_futex_wait(count_of(semaphore), 0);
    return 0;
}

int sem_timedwait(sem_t *semaphore, const struct timespec *end) {
    while (sem_trywait(semaphore))
        if (!waited_until(count_of(semaphore), 0, end)) {
            errno = ETIMEDOUT;
            return -1;
        }
    return 0;
}

int sem_post(sem_t *semaphore) {
    __c11_atomic_fetch_add(count_of(semaphore), 1, __ATOMIC_SEQ_CST);
    __lind_futex_wake(count_of(semaphore), 1);
    return 0;
}

int sem_getvalue(sem_t *semaphore, int *value) {
    *value = *count_of(semaphore);
    return 0;
}
