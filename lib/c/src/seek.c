// lseek(2), whose result Lind cuts to 32 bits.

#include "lind.h"

enum { START = 0, CURRENT = 1, END = 2 };
enum { LINUX_EINVAL = 22, LINUX_EOVERFLOW = 75 };

static int32_t moved(int fd, int64_t offset, int whence) {
    return lind(NR_LSEEK, num(fd), (uint64_t)offset, num(whence));
}

// Where the offset is. Nobody else may move it meanwhile: a place beyond 4 GiB is found by moving.
static int32_t place(int fd, uint64_t *out) {
    const int64_t turn = 1ll << 32;
    // Far enough for a place that looks like an error to look like none.
    const int64_t step = 1 << 20;
    int64_t aside = 0;
    int32_t low = moved(fd, 0, CURRENT);
    if (is_error(low)) {
        low = moved(fd, step, CURRENT);
        if (is_error(low))
            return low;
        aside = step;
    }
    // It stays where it is when it would go back beyond the start.
    int64_t turns = 0;
    if (moved(fd, -turn, CURRENT) == low) {
        turns++;
        for (int power = 30; power >= 0; power--)
            if (moved(fd, -(turn << power), CURRENT) == low)
                turns += 1ll << power;
    }
    int64_t found = turns * turn + (int64_t)(uint32_t)low - aside;
    if (turns || aside)
        moved(fd, found, START);
    *out = (uint64_t)found;
    return 0;
}

// Where the offset is, beyond 2 GiB, where such a place is EOVERFLOW once it is reached.
static int32_t far_place(int fd, uint64_t *out) {
    int64_t passed = 0;
    for (int power = 62; power >= 31; power--) {
        int64_t step = 1ll << power;
        int32_t low = moved(fd, -step, CURRENT);
        if (low >= 0) {
            *out = (uint64_t)(passed + step + low);
            int32_t back = moved(fd, (int64_t)*out, START);
            return back == -LINUX_EOVERFLOW ? 0 : is_error(back) ? back : -LINUX_EOVERFLOW;
        }
        // It stays where it is when it would go back beyond the start.
        if (low == -LINUX_EOVERFLOW)
            passed += step;
        else if (low != -LINUX_EINVAL)
            return low;
    }
    return -LINUX_EOVERFLOW;
}

// The same as a seek, where the base is 0: the runtime has a call with 64 bits there, which grates
// made for Lind do not know. They keep an offset of their own then, which is found by moving.
static int32_t told(int fd, int64_t offset, int whence, uint64_t *out) {
    int32_t result = moved(fd, offset, whence);
    if (result >= 0)
        *out = (uint64_t)result;
    if (result != -LINUX_EOVERFLOW)
        return result;
    *out = (uint64_t)offset;
    if (whence == START)
        return 0;
    result = lind(NR_LLSEEK, num(fd), 0, num(CURRENT), at(out));
    return result == 0 && *out > INT32_MAX ? 0 : far_place(fd, out);
}

int32_t __lind_seek(int fd, int64_t offset, int whence, uint64_t *out) {
    if (__lind_base() == 0)
        return told(fd, offset, whence, out);
    uint64_t start = 0;
    int32_t result = 0;
    if (whence == CURRENT || whence == END)
        result = place(fd, &start);
    if (is_error(result))
        return result;
    if (whence == END) {
        struct kernel_stat stat;
        result = lind(NR_FSTAT, num(fd), at(&stat));
        if (is_error(result))
            return result;
        start = stat.size;
    }
    if (whence != START && whence != CURRENT && whence != END) {
        // Data and holes: nothing else tells where they are.
        result = moved(fd, offset, whence);
        if (result >= 0)
            *out = (uint64_t)result;
        return result >= 0 || is_error(result) ? result : -LINUX_EOVERFLOW;
    }
    int64_t wanted;
    if (__builtin_add_overflow((int64_t)start, offset, &wanted))
        return -LINUX_EOVERFLOW;
    if (wanted < 0)
        return -LINUX_EINVAL;
    if (whence != CURRENT || offset != 0) {
        result = moved(fd, wanted, START);
        // The low half of a place can look like an error.
        if (result != (int32_t)wanted)
            return is_error(result) ? result : -LINUX_EOVERFLOW;
    }
    *out = (uint64_t)wanted;
    return 0;
}
