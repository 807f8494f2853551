// A workload for SQLite that can be killed at any moment, and the check of what is left of it.
//   sqlite_load load DB COUNT   commit transactions until there are COUNT, and say each one that
//                               COMMIT has returned for
//   sqlite_load verify DB       check the file, compare it with a database in memory that the same
//                               transactions have made, and say how many they are
// Transaction N is a function of N and of the database as N-1 left it: a run goes on where the one
// before was killed, and a check needs no record but the number.
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const SETTINGS =
	// Full, and the folder is synced when the journal is gone: a commit outlives a power cut.
	"PRAGMA synchronous = EXTRA;"
	"PRAGMA foreign_keys = ON;"
	"PRAGMA temp_store = FILE;"
	// In pages. So small that a transaction's pages reach the file before it commits.
	"PRAGMA cache_size = 20;";

// Freed pages leave the file with each commit, so that it shrinks too.
static const char *const SCHEMA =
	"PRAGMA auto_vacuum = FULL;"
	"BEGIN IMMEDIATE;"
	"CREATE TABLE ledger(id INTEGER PRIMARY KEY, note TEXT NOT NULL);"
	"CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT NOT NULL,"
	"  balance INTEGER NOT NULL);"
	"CREATE TABLE event(id INTEGER PRIMARY KEY, account INTEGER NOT NULL"
	"  REFERENCES account, at INTEGER NOT NULL, amount INTEGER NOT NULL, text TEXT NOT NULL);"
	"CREATE TABLE attachment(id INTEGER PRIMARY KEY, event INTEGER NOT NULL"
	"  REFERENCES event ON DELETE CASCADE, body BLOB NOT NULL);"
	"CREATE UNIQUE INDEX account_owner ON account(owner);"
	"CREATE INDEX event_account ON event(account, at);"
	"CREATE INDEX event_text ON event(text);"
	"CREATE INDEX attachment_event ON attachment(event);"
	"COMMIT;";

static const char *const TABLES[] = {"ledger", "account", "event", "attachment"};

#define MAX_BODY 120000

static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("sqlite_load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void check(sqlite3 *db, int code, const char *what)
{
	if (code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE)
		die("%s: %s (%d)", what, sqlite3_errmsg(db), sqlite3_extended_errcode(db));
}

static void script(sqlite3 *db, const char *sql)
{
	check(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement;
	check(db, sqlite3_prepare_v2(db, sql, -1, &statement, NULL), sql);
	return statement;
}

static void finish(sqlite3 *db, sqlite3_stmt *statement)
{
	check(db, sqlite3_finalize(statement), "finalize");
}

// Runs one statement. `types` has a letter for each parameter: i for an int64_t, t for a string, b
// for a pointer and an int length.
static void run(sqlite3 *db, const char *sql, const char *types, ...)
{
	sqlite3_stmt *statement = prepare(db, sql);
	va_list args;
	va_start(args, types);
	for (int at = 1; types[at - 1]; at++) {
		const void *bytes;
		switch (types[at - 1]) {
		case 'i':
			check(db, sqlite3_bind_int64(statement, at, va_arg(args, int64_t)), sql);
			break;
		case 't':
			bytes = va_arg(args, const char *);
			check(db, sqlite3_bind_text(statement, at, bytes, -1, SQLITE_TRANSIENT), sql);
			break;
		default:
			bytes = va_arg(args, const void *);
			check(db, sqlite3_bind_blob(statement, at, bytes, va_arg(args, int), SQLITE_TRANSIENT), sql);
		}
	}
	va_end(args);
	while (sqlite3_step(statement) == SQLITE_ROW)
		;
	finish(db, statement);
}

// The first column of the first row.
static int64_t number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement = prepare(db, sql);
	if (sqlite3_step(statement) != SQLITE_ROW)
		die("%s: no row: %s", sql, sqlite3_errmsg(db));
	int64_t value = sqlite3_column_int64(statement, 0);
	finish(db, statement);
	return value;
}

// As above, of a text column, which must be that.
static void expect(sqlite3 *db, const char *sql, const char *expected)
{
	sqlite3_stmt *statement = prepare(db, sql);
	if (sqlite3_step(statement) != SQLITE_ROW)
		die("%s: no row: %s", sql, sqlite3_errmsg(db));
	const char *got = (const char *)sqlite3_column_text(statement, 0);
	if (!got || strcmp(got, expected))
		die("%s: %s", sql, got ? got : "null");
	finish(db, statement);
}

struct dice {
	uint64_t state;
};

static struct dice dice_of(int64_t n, int of)
{
	// Any two streams apart, none of them zero.
	return (struct dice){((uint64_t)n * 2 + (unsigned)of + 1) * 0x9e3779b97f4a7c15u};
}

static int64_t roll(struct dice *dice, int64_t sides)
{
	dice->state ^= dice->state << 13;
	dice->state ^= dice->state >> 7;
	dice->state ^= dice->state << 17;
	return (int64_t)((dice->state >> 11) % (uint64_t)sides);
}

// A blob of lines that can be told from ciphertext.
static int body(struct dice *dice, int64_t n, char *into)
{
	int len = (int)roll(dice, roll(dice, 8) ? 3000 : MAX_BODY);
	int64_t which = roll(dice, 1000000);
	for (int at = 0, line = 0; at < len; line++)
		at += snprintf(into + at, (size_t)(len - at) + 1,
			"attachment %" PRId64 " of transaction %" PRId64 ", line %d\n", which, n, line);
	return len;
}

// One change. Rows are picked at or after a random id, so that ids may have gaps.
static void act(sqlite3 *db, struct dice *dice, int64_t n)
{
	static char bytes[MAX_BODY + 1];
	char text[200];
	int len;
	int64_t pick = roll(dice, 1 << 30), amount = roll(dice, 100000) - 50000;
	switch (roll(dice, 12)) {
	case 0:
	case 1:
		snprintf(text, sizeof text, "owner %" PRId64 " from transaction %" PRId64, pick, n);
		run(db, "INSERT OR IGNORE INTO account(owner, balance) VALUES (?, ?)", "ti", text, amount);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		snprintf(text, sizeof text, "%" PRId64 " cents booked by transaction %" PRId64, amount, n);
		run(db, "INSERT INTO event(account, at, amount, text) SELECT id, ?1, ?2, ?3 FROM account"
			" WHERE id >= 1 + ?4 % (SELECT max(id) FROM account) ORDER BY id LIMIT 1",
			"iiti", n, amount, text, pick);
		run(db, "UPDATE account SET balance = balance + ?1 WHERE id ="
			" (SELECT account FROM event ORDER BY id DESC LIMIT 1)", "i", amount);
		break;
	case 6:
	case 7:
		len = body(dice, n, bytes);
		run(db, "INSERT INTO attachment(event, body) SELECT id, ?1 FROM event"
			" WHERE id >= 1 + ?2 % (SELECT max(id) FROM event) ORDER BY id LIMIT 1",
			"bi", bytes, len, pick);
		break;
	case 8:
		len = body(dice, n, bytes);
		run(db, "UPDATE attachment SET body = ?1 WHERE id = (SELECT id FROM attachment WHERE id >="
			" 1 + ?2 % (SELECT max(id) FROM attachment) ORDER BY id LIMIT 1)",
			"bi", bytes, len, pick);
		break;
	case 9:
		snprintf(text, sizeof text, "renamed by transaction %" PRId64, n);
		run(db, "UPDATE account SET owner = id || ' ' || ?1 || ', once ' || substr(owner, 1, 150)"
			" WHERE id % 16 = ?2 % 16",
			"ti", text, pick);
		break;
	case 10:
		run(db, "DELETE FROM attachment WHERE id IN (SELECT id FROM attachment WHERE id >="
			" ?1 % (SELECT max(id) FROM attachment) ORDER BY id LIMIT 2)", "i", pick);
		break;
	default:
		run(db, "DELETE FROM event WHERE at < ?1 - 40 AND account % 4 = ?2 % 4", "ii", n, pick);
	}
}

static void acts(sqlite3 *db, struct dice dice, int64_t n)
{
	for (int64_t left = 1 + roll(&dice, 20); left > 0; left--)
		act(db, &dice, n);
}

static void transaction(sqlite3 *db, int64_t n)
{
	char text[100];
	if (n % 7 == 3) {
		script(db, "BEGIN IMMEDIATE");
		acts(db, dice_of(n, 1), n);
		script(db, "ROLLBACK");
	}
	script(db, "BEGIN IMMEDIATE");
	snprintf(text, sizeof text, "note of transaction %" PRId64, n);
	run(db, "INSERT INTO ledger VALUES (?, ?)", "it", n, text);
	acts(db, dice_of(n, 0), n);
	if (n % 5 == 2) {
		script(db, "SAVEPOINT part");
		acts(db, dice_of(n, 1), n);
		script(db, "ROLLBACK TO part; RELEASE part");
	}
	script(db, "COMMIT");
}

static sqlite3 *open(const char *name, const char *journal_mode)
{
	sqlite3 *db;
	if (sqlite3_open(name, &db) != SQLITE_OK)
		die("%s: %s", name, sqlite3_errmsg(db));
	script(db, SETTINGS);
	expect(db, "PRAGMA journal_mode", journal_mode);
	return db;
}

// A run may be killed before there is a table.
static int is_new(sqlite3 *db)
{
	return number(db, "SELECT count(*) FROM sqlite_schema") == 0;
}

static void load(const char *name, int64_t count)
{
	sqlite3 *db = open(name, "delete");
	if (is_new(db))
		script(db, SCHEMA);
	for (int64_t n = number(db, "SELECT coalesce(max(id), 0) FROM ledger"); n++ < count;) {
		transaction(db, n);
		printf("committed %" PRId64 "\n", n);
		if (fflush(stdout))
			die("nobody listens");
	}
	check(db, sqlite3_close(db), "close");
}

static void compare(sqlite3 *one, sqlite3 *other, const char *table)
{
	char sql[100];
	snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY id", table);
	sqlite3_stmt *left = prepare(one, sql), *right = prepare(other, sql);
	for (int64_t row = 0;; row++) {
		int step = sqlite3_step(left);
		check(one, step, sql);
		if (sqlite3_step(right) != step)
			die("%s has another number of rows than %" PRId64, table, row);
		if (step != SQLITE_ROW)
			break;
		for (int at = 0; at < sqlite3_column_count(left); at++) {
			int len = sqlite3_column_bytes(left, at);
			if (sqlite3_column_type(left, at) != sqlite3_column_type(right, at) ||
			    sqlite3_column_bytes(right, at) != len ||
			    (len && memcmp(sqlite3_column_blob(left, at), sqlite3_column_blob(right, at), (size_t)len)))
				die("%s differs in row %" PRId64 ", column %d", table, row, at);
		}
	}
	finish(one, left);
	finish(other, right);
}

static void verify(const char *name)
{
	sqlite3 *db = open(name, "delete"), *replay = open(":memory:", "memory");
	expect(db, "PRAGMA integrity_check", "ok");
	if (sqlite3_step(prepare(db, "PRAGMA foreign_key_check")) != SQLITE_DONE)
		die("a foreign key points nowhere");
	int64_t count = 0;
	if (!is_new(db)) {
		count = number(db, "SELECT coalesce(max(id), 0) FROM ledger");
		script(replay, SCHEMA);
		for (int64_t n = 1; n <= count; n++)
			transaction(replay, n);
		for (size_t at = 0; at < sizeof TABLES / sizeof *TABLES; at++)
			compare(db, replay, TABLES[at]);
	}
	printf("verified %" PRId64 "\n", count);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "load"))
		load(argv[2], strtoll(argv[3], NULL, 10));
	else if (argc == 3 && !strcmp(argv[1], "verify"))
		verify(argv[2]);
	else {
		fputs("usage: sqlite_load load DB COUNT | sqlite_load verify DB\n", stderr);
		return 64;
	}
	return 0;
}
