// Runs under the grate. It passes when it exits with 0 and prints what grates_test.toml says.

#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("user %d\n", (int)geteuid());
    return 0;
}
