// A tour of libc for a program built with a stock toolchain and no word of Lind:
//   clang --target=wasm32-wasi -O2 tour.c -o tour.wasm
// Prints one line a stop; a stop that fails names itself and ends the program with status 1.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAMES 200

static const char *stop = "start";

static void at(const char *name)
{
	stop = name;
	printf("%s\n", name);
}

static void check_at(int ok, int line)
{
	if (ok)
		return;
	printf("%s: line %d: %s\n", stop, line, strerror(errno));
	exit(1);
}
#define check(ok) check_at(!!(ok), __LINE__)
#define check_fails(call, code) check((errno = 0, (call) == -1) && errno == (code))

static void arguments(int argc, char **argv)
{
	at("arguments");
	for (int i = 1; i < argc; i++)
		printf("  %s\n", argv[i]);
	if (getenv("TOUR"))
		printf("  TOUR=%s\n", getenv("TOUR"));
}

static void streams(void)
{
	char line[64];
	at("streams");
	FILE *file = fopen("/tour/text", "w+");
	check(file);
	for (int i = 0; i < 1000; i++)
		check(fprintf(file, "line %d\n", i) > 0);
	check(fseek(file, 0, SEEK_SET) == 0);
	for (int i = 0; i < 1000; i++) {
		int number;
		check(fgets(line, sizeof line, file));
		check(sscanf(line, "line %d", &number) == 1 && number == i);
	}
	check(!fgets(line, sizeof line, file) && feof(file));
	check(fclose(file) == 0);
	check(!fopen("/tour/none", "r") && errno == ENOENT);
	check((file = fopen("/tour/text", "a")) && fputs("end\n", file) >= 0 && fclose(file) == 0);
	struct stat st;
	check(stat("/tour/text", &st) == 0 && st.st_size == 8894);
	check(S_ISREG(st.st_mode) && st.st_nlink == 1);
}

static void descriptors(void)
{
	char buffer[16] = "";
	at("descriptors");
	int fd = open("/tour/data", O_RDWR | O_CREAT | O_EXCL, 0644);
	check(fd >= 0);
	check_fails(open("/tour/data", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
	check(write(fd, "abcdef", 6) == 6);
	check(pread(fd, buffer, 3, 2) == 3 && !memcmp(buffer, "cde", 3));
	check(pwrite(fd, "XY", 2, 1) == 2);
	check(lseek(fd, 0, SEEK_CUR) == 6);
	check(lseek(fd, 5LL << 30, SEEK_SET) == 5LL << 30);
	check_fails(lseek(fd, -1, SEEK_SET), EINVAL);
	check(ftruncate(fd, 4) == 0 && lseek(fd, 0, SEEK_END) == 4);
	check(fsync(fd) == 0 && fdatasync(fd) == 0);
	check(fcntl(fd, F_GETFL) == O_RDWR);
	check(fcntl(fd, F_SETFL, O_APPEND) == 0);
	check(fcntl(fd, F_GETFL) == (O_RDWR | O_APPEND));
	check(lseek(fd, 0, SEEK_SET) == 0 && write(fd, "!", 1) == 1);
	check(pread(fd, buffer, sizeof buffer, 0) == 5 && !memcmp(buffer, "aXYd!", 5));
	check(posix_fallocate(fd, 0, 100) == 0);
	struct stat st;
	check(fstat(fd, &st) == 0 && st.st_size == 100);
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000, .tv_nsec = 5}};
	check(futimens(fd, times) == 0 && fstat(fd, &st) == 0);
	check(st.st_mtim.tv_sec == 1000 && st.st_mtim.tv_nsec == 5 && st.st_atim.tv_sec > 1000);
	check(close(fd) == 0);
	check_fails(close(fd), EBADF);
	check((fd = open("/tour/data", O_RDONLY)) >= 0);
	check_fails(write(fd, "x", 1), EBADF);
	check(close(fd) == 0);
	check_fails(open("/tour", O_WRONLY), EISDIR);
	check_fails(open("/tour/data/x", O_RDONLY), ENOTDIR);
}

static void names(void)
{
	char buffer[16] = "";
	struct stat st;
	at("names");
	check(mkdir("/tour/d", 0755) == 0);
	check_fails(mkdir("/tour/d", 0755), EEXIST);
	check(rename("/tour/data", "/tour/d/data") == 0);
	check_fails(rmdir("/tour/d"), ENOTEMPTY);
	check(link("/tour/d/data", "/tour/twin") == 0);
	check(stat("/tour/twin", &st) == 0 && st.st_nlink == 2);
	check(symlink("d/data", "/tour/soft") == 0);
	check(readlink("/tour/soft", buffer, sizeof buffer) == 6 && !memcmp(buffer, "d/data", 6));
	check(lstat("/tour/soft", &st) == 0 && S_ISLNK(st.st_mode));
	check(stat("/tour/soft", &st) == 0 && S_ISREG(st.st_mode));
	check_fails(open("/tour/soft", O_RDONLY | O_NOFOLLOW), ELOOP);
	check(access("/tour/twin", R_OK) == 0);
	check(chdir("/tour/d") == 0 && access("data", F_OK) == 0 && access("../soft", F_OK) == 0);
	check(chdir("/") == 0);
	int dir = open("/tour/d", O_RDONLY | O_DIRECTORY);
	check(dir >= 0 && fstatat(dir, "data", &st, 0) == 0);
	check(unlinkat(dir, "data", 0) == 0 && close(dir) == 0);
	check_fails(stat("/tour/soft", &st), ENOENT);
	check(unlink("/tour/soft") == 0 && unlink("/tour/twin") == 0 && rmdir("/tour/d") == 0);
	check_fails(unlink("/tour/twin"), ENOENT);
}

static void directories(void)
{
	char path[64];
	char seen[NAMES] = "";
	int count = 0;
	at("directories");
	check(mkdir("/tour/many", 0755) == 0);
	for (int i = 0; i < NAMES; i++) {
		snprintf(path, sizeof path, "/tour/many/%0*d", 1 + i % 40, i);
		FILE *file = fopen(path, "w");
		check(file && fclose(file) == 0);
	}
	DIR *dir = opendir("/tour/many");
	check(dir);
	for (int round = 0; round < 2; round++) {
		struct dirent *entry;
		while ((entry = readdir(dir))) {
			if (entry->d_name[0] == '.')
				continue;
			check(entry->d_type == DT_REG);
			seen[atoi(entry->d_name)]++;
			count++;
		}
		rewinddir(dir);
	}
	check(count == 2 * NAMES);
	for (int i = 0; i < NAMES; i++)
		check(seen[i] == 2);
	check(closedir(dir) == 0);
	for (int i = 0; i < NAMES; i++) {
		snprintf(path, sizeof path, "/tour/many/%0*d", 1 + i % 40, i);
		check(unlink(path) == 0);
	}
	check(rmdir("/tour/many") == 0);
}

static double now(void)
{
	struct timespec time;
	check(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void waiting(void)
{
	at("waiting");
	double start = now();
	struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	check(nanosleep(&pause, NULL) == 0 && now() - start >= 0.02);
	start = now();
	check(usleep(1000) == 0 && now() - start >= 0.001);
	int fd = open("/tour/text", O_RDONLY);
	struct pollfd fds[2] = {{.fd = fd, .events = POLLRDNORM}, {.fd = 1, .events = POLLWRNORM}};
	check(poll(fds, 2, 60000) == 2);
	check(fds[0].revents == POLLRDNORM && fds[1].revents == POLLWRNORM);
	check(close(fd) == 0);
	check(time(NULL) > 1700000000);
}

static void memory(void)
{
	at("memory");
	char *block = malloc(64 << 20);
	check(block);
	memset(block, 'm', 64 << 20);
	FILE *file = fopen("/tour/big", "w+");
	check(file && fwrite(block, 1, 5 << 20, file) == 5 << 20);
	memset(block, 0, 5 << 20);
	rewind(file);
	check(fread(block, 1, 8 << 20, file) == 5 << 20 && block[0] == 'm' && block[(5 << 20) - 1] == 'm');
	check(fclose(file) == 0);
	free(block);
	unsigned char random[1000] = "";
	int zeros = 0;
	check(getentropy(random, 256) == 0);
	for (int i = 0; i < 256; i++)
		zeros += random[i] == 0;
	check(zeros < 20);
}

int main(int argc, char **argv)
{
	arguments(argc, argv);
	mkdir("/tour", 0755);
	streams();
	descriptors();
	names();
	directories();
	waiting();
	memory();
	check(unlink("/tour/text") == 0 && unlink("/tour/big") == 0 && rmdir("/tour") == 0);
	at("end");
	return 7;
}
