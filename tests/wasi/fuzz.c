// fuzz SEED COUNT: makes COUNT random calls of WASI preview 1, mostly well-formed; what it writes is
// marked. Ends with 0 whatever they answered.
//   clang --target=wasm32-wasi -O1 fuzz.c -o fuzz.wasm
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// By their own names and types: libc's would check the arguments first.
#define CALL(name, ...) \
	__attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) \
	int32_t wasi_##name(__VA_ARGS__)
typedef int32_t i;
typedef int64_t l;
CALL(args_get, i, i);
CALL(args_sizes_get, i, i);
CALL(environ_get, i, i);
CALL(environ_sizes_get, i, i);
CALL(clock_res_get, i, i);
CALL(clock_time_get, i, l, i);
CALL(fd_advise, i, l, l, i);
CALL(fd_allocate, i, l, l);
CALL(fd_close, i);
CALL(fd_datasync, i);
CALL(fd_fdstat_get, i, i);
CALL(fd_fdstat_set_flags, i, i);
CALL(fd_fdstat_set_rights, i, l, l);
CALL(fd_filestat_get, i, i);
CALL(fd_filestat_set_size, i, l);
CALL(fd_filestat_set_times, i, l, l, i);
CALL(fd_pread, i, i, i, l, i);
CALL(fd_prestat_get, i, i);
CALL(fd_prestat_dir_name, i, i, i);
CALL(fd_pwrite, i, i, i, l, i);
CALL(fd_read, i, i, i, i);
CALL(fd_readdir, i, i, i, l, i);
CALL(fd_renumber, i, i);
CALL(fd_seek, i, l, i, i);
CALL(fd_sync, i);
CALL(fd_tell, i, i);
CALL(fd_write, i, i, i, i);
CALL(path_create_directory, i, i, i);
CALL(path_filestat_get, i, i, i, i, i);
CALL(path_filestat_set_times, i, i, i, i, l, l, i);
CALL(path_link, i, i, i, i, i, i, i);
CALL(path_open, i, i, i, i, i, l, l, i, i);
CALL(path_readlink, i, i, i, i, i, i);
CALL(path_remove_directory, i, i, i);
CALL(path_rename, i, i, i, i, i, i);
CALL(path_symlink, i, i, i, i, i);
CALL(path_unlink_file, i, i, i);
CALL(poll_oneoff, i, i, i, i);
CALL(random_get, i, i);
CALL(sched_yield, void);
CALL(sock_accept, i, i, i);
CALL(sock_recv, i, i, i, i, i, i);
CALL(sock_send, i, i, i, i, i);
CALL(sock_shutdown, i, i);

#define MARK "4417-PLAIN-TEXT of jane.doe@example.com\n"
#define ROOM 65536
// Longer than what calls are told of it: they write beyond its end too.
static char arena[ROOM + 16384];
static uint64_t state;

static uint64_t word(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint32_t roll(uint32_t sides)
{
	return (uint32_t)(word() >> 33) % sides;
}

static const uint32_t wild[] = { 0, 1, 0xfffffff0, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000 };

static int wildly(void)
{
	return roll(30) == 0;
}

static i pick_wild(void)
{
	return (i)wild[roll(sizeof wild / sizeof *wild)];
}

static i place(void)
{
	if (wildly())
		return pick_wild();
	return (i)(uintptr_t)(arena + roll(ROOM - 256) / 8 * 8);
}

static i fd(void)
{
	return wildly() ? pick_wild() : (i)roll(roll(2) ? 12 : 5);
}

static i directory(void)
{
	return roll(8) ? 3 : fd();
}

static i length(void)
{
	return wildly() ? pick_wild() : (i)roll(roll(3) ? 100 : 8000);
}

static l offset(void)
{
	static const l far[] = { -1, 1LL << 62, INT64_MIN, INT64_MAX };
	return wildly() ? far[roll(4)] : (l)roll(20000);
}

static i list(uint32_t *count)
{
	*count = roll(4);
	uint32_t *vectors = (uint32_t *)(arena + 4096 + roll(64) * 64);
	for (uint32_t at = 0; at < *count; at++) {
		vectors[2 * at] = (uint32_t)place();
		vectors[2 * at + 1] = (uint32_t)(roll(10) ? (i)roll(500) : length());
	}
	if (wildly())
		*count = (uint32_t)pick_wild();
	return (i)(uintptr_t)vectors;
}

static i path(i *len)
{
	static const char *const names[] = {
		"open/a.log", "open/b.log", "open/c.log", "open/folder", "open/folder/d.log", "open",
		"keys/k.bin", "open/hard.log", "open/soft.log", "open/keys/k.bin", "protected/f.log",
		"protected", "keys", "open/denied.log", "../beside", "open/outside-file", "/open/a.log",
		"open/outside/beside", ".", "..", "", "open/../open/a.log", "open/plain.log", "tmp/x",
		"proc/self/fd/3", "bin/hello.cwasm",
	};
	const char *name = names[roll(sizeof names / sizeof *names)];
	char *to = arena + roll(16) * 128;
	strcpy(to, name);
	*len = wildly() ? length() : (i)strlen(name);
	return wildly() ? place() : (i)(uintptr_t)to;
}

static l rights(void)
{
	return roll(4) ? (l)0x1fffffff : (l)word();
}

static void make(void)
{
	uint32_t n;
	i a, b, c, d, result = place();
	switch (roll(45)) {
	case 0: wasi_args_get(place(), place()); break;
	case 1: wasi_args_sizes_get(place(), place()); break;
	case 2: wasi_environ_get(place(), place()); break;
	case 3: wasi_environ_sizes_get(place(), place()); break;
	case 4: wasi_clock_res_get((i)roll(5), place()); break;
	case 5: wasi_clock_time_get((i)roll(5), offset(), place()); break;
	case 6: wasi_fd_advise(fd(), offset(), offset(), (i)roll(8)); break;
	case 7: wasi_fd_allocate(fd(), offset(), offset()); break;
	case 8: if (roll(3) == 0) wasi_fd_close((i)(3 + roll(12))); break;
	case 9: wasi_fd_datasync(fd()); break;
	case 10: wasi_fd_fdstat_get(fd(), place()); break;
	case 11: wasi_fd_fdstat_set_flags(fd(), (i)roll(64)); break;
	case 12: wasi_fd_fdstat_set_rights(fd(), rights(), rights()); break;
	case 13: wasi_fd_filestat_get(fd(), place()); break;
	case 14: wasi_fd_filestat_set_size(fd(), offset()); break;
	case 15: wasi_fd_filestat_set_times(fd(), offset(), offset(), (i)roll(32)); break;
	case 16: a = list(&n); wasi_fd_pread(fd(), a, (i)n, offset(), result); break;
	case 17: wasi_fd_prestat_get(fd(), place()); break;
	case 18: wasi_fd_prestat_dir_name(fd(), place(), length()); break;
	case 19: a = list(&n); wasi_fd_pwrite(fd(), a, (i)n, offset(), result); break;
	case 20: a = list(&n); wasi_fd_read(fd(), a, (i)n, result); break;
	case 21: wasi_fd_readdir(fd(), place(), length(), offset(), place()); break;
	case 22: if (roll(4) == 0) wasi_fd_renumber(fd(), fd()); break;
	case 23: wasi_fd_seek(fd(), offset(), (i)roll(5), place()); break;
	case 24: wasi_fd_sync(fd()); break;
	case 25: wasi_fd_tell(fd(), place()); break;
	case 26: a = list(&n); wasi_fd_write(fd(), a, (i)n, result); break;
	case 27: a = path(&b); wasi_path_create_directory(directory(), a, b); break;
	case 28: a = path(&b); wasi_path_filestat_get(directory(), (i)roll(4), a, b, place()); break;
	case 29:
		a = path(&b);
		wasi_path_filestat_set_times(directory(), (i)roll(4), a, b, offset(), offset(), (i)roll(32));
		break;
	case 30:
		a = path(&b);
		c = path(&d);
		wasi_path_link(directory(), (i)roll(4), a, b, directory(), c, d);
		break;
	default:
		a = path(&b);
		wasi_path_open(directory(), (i)roll(4), a, b, (i)roll(18), rights(), rights(), (i)roll(34),
			       place());
		break;
	case 31: a = path(&b); wasi_path_readlink(directory(), a, b, place(), length(), place()); break;
	case 32: a = path(&b); wasi_path_remove_directory(directory(), a, b); break;
	case 33:
		a = path(&b);
		c = path(&d);
		wasi_path_rename(directory(), a, b, directory(), c, d);
		break;
	case 34:
		a = path(&b);
		c = path(&d);
		wasi_path_symlink(a, b, directory(), c, d);
		break;
	case 35: a = path(&b); wasi_path_unlink_file(directory(), a, b); break;
	case 36: {
		// A clock that has rung, so that nothing is waited for; then whatever may come.
		uint64_t *events = (uint64_t *)(arena + 32768);
		memset(events, 0, 48 * 4);
		events[3] = roll(2);
		events[6 + 1] = roll(4) ? 0 : roll(4);
		events[6 + 2] = (uint64_t)(uint32_t)fd();
		wasi_poll_oneoff((i)(uintptr_t)events, place(), (i)roll(5), place());
		break;
	}
	case 37: wasi_random_get(place(), length()); break;
	case 38: wasi_sched_yield(); break;
	case 39: wasi_sock_accept(fd(), (i)roll(8), place()); break;
	case 40: a = list(&n); wasi_sock_recv(fd(), a, (i)n, (i)roll(4), place(), place()); break;
	case 41: a = list(&n); wasi_sock_send(fd(), a, (i)n, (i)roll(2), place()); break;
	case 42: wasi_sock_shutdown(fd(), (i)roll(4)); break;
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 64;
	state = strtoull(argv[1], 0, 10) * 0x9e3779b97f4a7c15 | 1;
	for (int left = atoi(argv[2]); left > 0; left--) {
		if (left % 64 == 0)
			for (size_t at = 0; at + sizeof MARK <= ROOM; at += sizeof MARK - 1)
				memcpy(arena + at, MARK, sizeof MARK - 1);
		make();
	}
	return 0;
}
