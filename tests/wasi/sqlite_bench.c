// Times SQLite: `sqlite_bench DB TRANSACTIONS ROWS SYNCHRONOUS` makes a database anew and inserts ROWS rows in
// each of so many transactions, with that PRAGMA synchronous: with OFF it never waits for the disk. Prints the
// nanoseconds it took and the number of rows.
#include <inttypes.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static sqlite3 *db;

static void check(int code)
{
	if (code != SQLITE_OK && code != SQLITE_DONE) {
		fprintf(stderr, "sqlite_bench: %s\n", sqlite3_errmsg(db));
		exit(1);
	}
}

static void script(const char *sql)
{
	check(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fputs("usage: sqlite_bench DB TRANSACTIONS ROWS SYNCHRONOUS\n", stderr);
		return 64;
	}
	int64_t transactions = strtoll(argv[2], NULL, 10), rows = strtoll(argv[3], NULL, 10);
	unlink(argv[1]);
	check(sqlite3_open(argv[1], &db));
	char synchronous[64];
	snprintf(synchronous, sizeof synchronous, "PRAGMA synchronous = %s", argv[4]);
	script(synchronous);
	script("CREATE TABLE event(id INTEGER PRIMARY KEY, name TEXT NOT NULL, body TEXT NOT NULL);"
	       "CREATE INDEX event_name ON event(name);");
	sqlite3_stmt *insert;
	check(sqlite3_prepare_v2(db, "INSERT INTO event VALUES (?1, ?2, ?3)", -1, &insert, NULL));

	int64_t start = now();
	for (int64_t id = 0; id < transactions * rows; id++) {
		if (id % rows == 0)
			script("BEGIN");
		char name[32], body[101];
		// Names come in no order, so that the index is changed all over.
		snprintf(name, sizeof name, "%08" PRIx32, (uint32_t)id * UINT32_C(2654435761));
		memset(body, 'a' + (int)(id % 26), sizeof body - 1);
		body[sizeof body - 1] = 0;
		check(sqlite3_bind_int64(insert, 1, id));
		check(sqlite3_bind_text(insert, 2, name, -1, SQLITE_TRANSIENT));
		check(sqlite3_bind_text(insert, 3, body, -1, SQLITE_TRANSIENT));
		check(sqlite3_step(insert));
		check(sqlite3_reset(insert));
		if (id % rows == rows - 1)
			script("COMMIT");
	}
	int64_t took = now() - start;
	check(sqlite3_finalize(insert));
	check(sqlite3_close(db));
	printf("%" PRId64 " %" PRId64 " 0\n", took, transactions * rows);
	return 0;
}
