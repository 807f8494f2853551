// The requests that Lind takes, in Linux's numbers.

#ifndef LIND_SYS_IOCTL_H
#define LIND_SYS_IOCTL_H

#ifdef __cplusplus
extern "C" {
#endif

#define FIONBIO 0x5421
#define FIONREAD 0x541B
#define FIOASYNC 0x5452
#define TIOCGWINSZ 0x5413

struct winsize {
    unsigned short ws_row, ws_col, ws_xpixel, ws_ypixel;
};

int ioctl(int, int, ...);

#ifdef __cplusplus
}
#endif

#endif
